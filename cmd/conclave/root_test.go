package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		args    string
		message string
		hint    string
	}{
		{"unknown command", "stats", `unknown command "stats", did you mean "status"?`, "conclave"},
		{"unknown command, nothing like it", "zzz", `unknown command "zzz"`, "conclave"},
		{"unknown subcommand", "mh lst", `unknown command "lst", did you mean "list"?`, "conclave mh"},
		{"group alone", "meeting", "meeting needs one of: assign, end, list, show", "conclave meeting"},
		{"unknown flag", "mh list --zone eu", "unknown flag: --zone", "conclave mh list"},
		{"unknown flag of the root", "--verbose", "unknown flag: --verbose", "conclave"},
		{"flag without its value", "status --target", "flag needs an argument: --target", "conclave status"},
		{"missing argument", "mh show", "missing argument ID", "conclave mh show"},
		{"one argument too many", "meeting end a b", `unexpected argument "b"`, "conclave meeting end"},
		{"argument where none belongs", "version now", `unexpected argument "now"`, "conclave version"},
		{"bad output", "status -o xml", `bad value "xml" of --output: want table or json`, "conclave status"},
		{"bad target", "status --target localhost", `bad value "localhost" of --target: want host:port[,host:port...]`, "conclave status"},
		{"bad target in a list", "status --target a:1,,b:2", `bad value "a:1,,b:2" of --target: want host:port[,host:port...]`, "conclave status"},
		{"bad timeout", "status --timeout soon", `bad value "soon" of --timeout: want a duration above zero, as in 500ms or 10s`, "conclave status"},
		{"no timeout", "status --timeout 0s", `bad value "0s" of --timeout: want a duration above zero, as in 500ms or 10s`, "conclave status"},
		{"bad consistency", "mc list --consistency weak", `bad value "weak" of --consistency: want linearizable or stale`, "conclave mc list"},
		{"bad token", "meeting end m --token -1", `bad value "-1" of --token: want a whole number, not negative`, "conclave meeting end"},
		{"bad switch", "meeting list --ended=perhaps", `bad value "perhaps" of --ended: want true or false`, "conclave meeting list"},
		{"controllers nowhere", "sim mc --host 0.0.0.0", "--host must be an address of this machine at which the cluster reaches it", "conclave sim mc"},
		{"help for nothing", "help mh kick", `no help for "mh kick": unknown command`, "conclave help"},
		{"bad shell for completion", "completion tcsh", `no completion for "tcsh": want one of bash, fish, powershell, zsh`, "conclave completion"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := execute(t, strings.Fields(test.args)...)
			want := "conclave: " + test.message + "\nsee '" + test.hint + " --help'\n"
			if got.code != exitUsage || got.stderr != want {
				t.Errorf("exit code %d, stderr:\n%s\nwant 2 and:\n%s", got.code, got.stderr, want)
			}
			if got.stdout != "" {
				t.Errorf("stdout of wrong usage is %q, want none", got.stdout)
			}
		})
	}
}

func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "fish", "powershell", "zsh"} {
		if got := execute(t, "completion", shell); got.code != exitDone || !strings.Contains(got.stdout, "__conclave_") {
			t.Errorf("%s: exit code %d, stderr %q, script of %d bytes", shell, got.code, got.stderr, len(got.stdout))
		}
	}
}

func TestEmptyArgumentCountsAsMissing(t *testing.T) {
	t.Parallel()
	got := execute(t, "meeting", "show", "")
	if got.code != exitUsage || !strings.HasPrefix(got.stderr, "conclave: missing argument MEETING\n") {
		t.Errorf("got %+v, want wrong usage for the missing MEETING", got)
	}
}

// walk calls visit for a command and all below it.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, visit)
	}
}

func TestEveryCommandIsExplained(t *testing.T) {
	t.Parallel()
	root := newRootCommand()
	root.InitDefaultHelpCmd()
	walk(root, func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no short description", cmd.CommandPath())
		}
		if !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("the example of %s does not show it: %q", cmd.CommandPath(), cmd.Example)
		}
		if cmd != root && (cmd.PersistentPreRun != nil || cmd.PersistentPreRunE != nil) {
			t.Errorf("%s hides the root's hook, which binds the environment", cmd.CommandPath())
		}
	})
}

// Examples must parse: each line of ours is run with --help, which stops before it does anything
// but after its command and flags are looked up.
func TestExamplesAreRealCommandLines(t *testing.T) {
	t.Parallel()
	walk(newRootCommand(), func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			commandLine, _, _ := strings.Cut(line, "|")
			commandLine, _, _ = strings.Cut(commandLine, ` --reason "`)
			words := strings.Fields(commandLine)
			if len(words) == 0 || words[0] != "conclave" {
				continue
			}
			got := execute(t, append(words[1:], "--help")...)
			if got.code != exitDone || !strings.Contains(got.stdout, "Usage:") {
				t.Errorf("example %q: exit code %d, stderr %q", line, got.code, got.stderr)
			}
		}
	})
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"", "--help", "help", "mh --help", "help meeting assign"} {
		got := execute(t, strings.Fields(args)...)
		if got.code != exitDone || got.stderr != "" {
			t.Errorf("conclave %s: exit code %d, stderr %q", args, got.code, got.stderr)
		}
		for _, want := range []string{"Usage:", "Examples:", "--grpc-addr is CONCLAVE_GRPC_ADDR"} {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("conclave %s does not print %q:\n%s", args, want, got.stdout)
			}
		}
	}
	if got := execute(t, "mh", "--help"); strings.Contains(got.stdout, "conclave mh [flags]") {
		t.Errorf("the help of a group shows it without a subcommand:\n%s", got.stdout)
	}
}
