package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// environmentName is the variable that sets a flag: CONCLAVE_GRPC_ADDR for grpc-addr.
func environmentName(flag string) string {
	return "CONCLAVE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// bindEnvironment sets every flag that the command line left alone and for which there is a
// variable. An empty variable counts as not set, as container tools leave it behind for an
// option that was not given. Other variables that begin with CONCLAVE_ are ignored: Kubernetes
// makes some for a service of that name.
func bindEnvironment(flags *pflag.FlagSet, getenv func(string) string) error {
	var failure error
	flags.VisitAll(func(flag *pflag.Flag) {
		if failure != nil || flag.Changed || flag.Name == "help" {
			return
		}
		variable := environmentName(flag.Name)
		value := getenv(variable)
		if value == "" {
			return
		}
		if err := flags.Set(flag.Name, value); err != nil {
			failure = badValue(variable, value, flag, err)
		}
	})
	return failure
}

// explainFlagError words what pflag found wrong on the command line.
func explainFlagError(err error) error {
	if invalid := new(pflag.InvalidValueError); errors.As(err, &invalid) {
		flag := invalid.GetFlag()
		return badValue("--"+flag.Name, invalid.GetValue(), flag, err)
	}
	return err
}

// badValue says that the value of source, a flag or a variable, is not one, and what would be.
func badValue(source, value string, flag *pflag.Flag, err error) error {
	if invalid := new(pflag.InvalidValueError); errors.As(err, &invalid) {
		err = errors.Unwrap(invalid)
	}
	want := wantOf(flag.Value.Type())
	if typed := new(valueError); errors.As(err, &typed) {
		want = typed.want
	}
	if want == "" {
		return fmt.Errorf("bad value %q of %s: %w", value, source, err)
	}
	return fmt.Errorf("bad value %q of %s: want %s", value, source, want)
}

// valueError is returned by the Set of our own flag types.
type valueError struct{ want string }

func (e *valueError) Error() string { return "want " + e.want }

// wantOf says in words what a flag of one of pflag's types takes; the errors of those types say
// it in the words of strconv. It is empty for a type whose own error serves.
func wantOf(pflagType string) string {
	switch pflagType {
	case "bool":
		return "true or false"
	case "duration":
		return "a duration, as in 500ms or 10s"
	case "int", "int32", "int64":
		return "a whole number"
	case "uint", "uint16", "uint32", "uint64":
		return "a whole number, not negative"
	case "float64":
		return "a number"
	default:
		return ""
	}
}
