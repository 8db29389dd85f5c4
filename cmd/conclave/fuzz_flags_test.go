package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/pflag"
)

// FuzzFlags: whatever text a flag of serve or of the client commands is given, on the command line
// or through the environment, it takes the same value or is refused in the same words, in one
// line. What a flag says of its value it takes again, and a flag of a type of our own that refuses
// a text keeps its value.
func FuzzFlags(f *testing.F) {
	for number := range len(flagNames(anyFlags())) {
		for _, text := range []string{"gc-1=10.0.0.1:7951,gc-2=10.0.0.2:7951", "a=b,a=c", "a=x, b=x", "host:1,[::1]:2", "10s", "-1ms", "7", "true", "json", "stale", "\x00", "a\nb"} {
			f.Add(uint8(number), text)
		}
	}
	f.Fuzz(func(t *testing.T, number uint8, text string) {
		names := flagNames(anyFlags())
		name := names[int(number)%len(names)]
		line, environment := anyFlags(), anyFlags()
		before := line.Lookup(name).Value.String()

		lineErr := explained(line.Parse([]string{"--" + name + "=" + text}))
		checkFlag(t, line.Lookup(name), before, text, lineErr)
		if text == "" { // in the environment, as good as nothing
			return
		}
		environmentErr := bindEnvironment(environment, func(variable string) string {
			if variable == environmentName(name) {
				return text
			}
			return ""
		})
		if got, want := environment.Lookup(name).Value.String(), line.Lookup(name).Value.String(); got != want {
			t.Errorf("%s=%q is %q, --%s is %q", environmentName(name), text, got, name, want)
		}
		if got, want := words(environmentErr), strings.Replace(words(lineErr), "--"+name, environmentName(name), 1); got != want {
			t.Errorf("%q is refused with %q, on the command line with %q", text, got, words(lineErr))
		}
	})
}

// anyFlags are those of serve and of the commands that ask a cluster.
func anyFlags() *pflag.FlagSet {
	flags := newServeCommand().Flags()
	addClientFlags(flags)
	addConsistencyFlag(flags)
	return flags
}

func flagNames(flags *pflag.FlagSet) (names []string) {
	flags.VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	return names
}

func explained(err error) error {
	if err == nil {
		return nil
	}
	return explainFlagError(err)
}

func words(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func checkFlag(t *testing.T, flag *pflag.Flag, before, text string, err error) {
	if err != nil {
		ours := reflect.TypeOf(flag.Value).Elem().PkgPath() == reflect.TypeFor[clusterFlag]().PkgPath()
		if now := flag.Value.String(); ours && now != before {
			t.Errorf("--%s=%q is refused, and changes %q to %q", flag.Name, text, before, now)
		}
		if message := err.Error(); !strings.Contains(message, flag.Name) || strings.IndexFunc(message, unicode.IsControl) >= 0 {
			t.Errorf("--%s=%q is refused with %q", flag.Name, text, message)
		}
		return
	}
	if cluster, ok := flag.Value.(*clusterFlag); ok {
		checkCluster(t, text, *cluster)
	}
	said := flag.Value.String()
	value := reflect.ValueOf(flag.Value).Elem().Interface()
	if err := flag.Value.Set(said); err != nil || flag.Value.String() != said {
		t.Errorf("--%s=%q says that it is %q, of which it makes %q: %v", flag.Name, text, said, flag.Value, errors.Unwrap(err))
	}
	if again := reflect.ValueOf(flag.Value).Elem().Interface(); !reflect.DeepEqual(again, value) {
		t.Errorf("--%s=%q is %v, written and read again %v", flag.Name, text, value, again)
	}
}

// checkCluster holds that a cluster has as many replicas as the text names, all different.
func checkCluster(t *testing.T, text string, cluster clusterFlag) {
	ids, addresses := make(map[string]bool), make(map[string]bool)
	for _, server := range cluster {
		ids[server.ID], addresses[server.RaftAddress] = true, true
	}
	replicas := 1 + strings.Count(text, ",")
	if len(cluster) != replicas || len(ids) != replicas || len(addresses) != replicas || ids[""] || addresses[""] {
		t.Errorf("%q is the cluster %+v", text, cluster)
	}
}
