package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

func TestFlagWinsOverEnvironmentWinsOverDefault(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		environment map[string]string
		args        []string
		want        string
	}{
		{"default", nil, nil, ""},
		{"variable", map[string]string{"CONCLAVE_REGION": "eu"}, nil, "eu"},
		{"flag over variable", map[string]string{"CONCLAVE_REGION": "eu"}, []string{"--region", "us"}, "us"},
		{"empty flag over variable", map[string]string{"CONCLAVE_REGION": "eu"}, []string{"--region="}, ""},
		{"empty variable", map[string]string{"CONCLAVE_REGION": ""}, nil, ""},
		{"variables of others", map[string]string{"CONCLAVE_PORT": "tcp://10.0.0.1:1", "REGION": "eu"}, nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fake := (&fakeReplica{}).start(t)
			got := executeWith(t, test.environment, append([]string{"mh", "list", "--target", fake.address}, test.args...)...)
			if got.code != exitDone {
				t.Fatalf("exit code %d: %s", got.code, got.stderr)
			}
			if region := fake.asked()[0].(*conclavev1.ListMediaHandlersRequest).GetRegion(); region != test.want {
				t.Errorf("asked for region %q, want %q", region, test.want)
			}
		})
	}
}

func TestTargetFromEnvironment(t *testing.T) {
	t.Parallel()
	fake := (&fakeReplica{}).start(t)
	got := executeWith(t, map[string]string{"CONCLAVE_TARGET": fake.address, "CONCLAVE_OUTPUT": "json"}, "mc", "list")
	if got.code != exitDone || !strings.HasPrefix(got.stdout, "{") {
		t.Errorf("got %+v, want JSON from the target of the environment", got)
	}
}

func TestBadVariableIsWrongUsage(t *testing.T) {
	t.Parallel()
	tests := []struct{ variable, value, args, want string }{
		{"CONCLAVE_TIMEOUT", "soon", "status", "a duration above zero, as in 500ms or 10s"},
		{"CONCLAVE_OUTPUT", "xml", "version", "table or json"},
		{"CONCLAVE_TARGET", "nowhere", "mc show x", "host:port[,host:port...]"},
		{"CONCLAVE_LIMIT", "many", "meeting list", "a whole number, not negative"},
		{"CONCLAVE_ENDED", "perhaps", "meeting list", "true or false"},
	}
	for _, test := range tests {
		got := executeWith(t, map[string]string{test.variable: test.value}, strings.Fields(test.args)...)
		want := `conclave: bad value "` + test.value + `" of ` + test.variable + ": want " + test.want + "\n"
		if got.code != exitUsage || !strings.HasPrefix(got.stderr, want) {
			t.Errorf("%s=%s: exit code %d, stderr %q, want 2 and %q", test.variable, test.value, got.code, got.stderr, want)
		}
	}
}

// Setting each flag of each command to its own default through the environment must count as
// setting that flag: nothing is left out of the rule.
func TestEveryFlagCanBeSetThroughTheEnvironment(t *testing.T) {
	t.Parallel()
	sample := map[string]string{"bool": "true", "uint32": "7", "uint64": "7", "string": "seven", "id=raft-addr,...": "gc-1=host:1"}
	walk(newRootCommand(), func(cmd *cobra.Command) {
		if err := cmd.ParseFlags(nil); err != nil {
			t.Fatal(err)
		}
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			value, plain := sample[flag.Value.Type()]
			if !plain {
				value = flag.DefValue
			}
			if flag.Value.Type() == "stringSlice" { // which pflag prints in brackets that it does not read
				value = strings.Trim(value, "[]")
			}
			environment := map[string]string{environmentName(flag.Name): value}
			if err := bindEnvironment(cmd.Flags(), func(name string) string { return environment[name] }); err != nil {
				t.Errorf("%s --%s: %v", cmd.CommandPath(), flag.Name, err)
			}
			if flag.Name != "help" && (!flag.Changed || strings.Trim(flag.Value.String(), "[]") != value) {
				t.Errorf("%s: %s=%s leaves --%s at %s", cmd.CommandPath(), environmentName(flag.Name), value, flag.Name, flag.Value)
			}
		})
	})
}

func TestEnvironmentSatisfiesRequiredFlag(t *testing.T) {
	t.Parallel()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	nodeID := flags.String("node-id", "", "")
	getenv := func(name string) string { return map[string]string{"CONCLAVE_NODE_ID": "gc-1"}[name] }
	if err := bindEnvironment(flags, getenv); err != nil || *nodeID != "gc-1" || !flags.Changed("node-id") {
		t.Errorf("node id %q, changed %v, error %v; want gc-1, as if given as a flag", *nodeID, flags.Changed("node-id"), err)
	}
}
