package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// commands is the list of everything that conclave can do. Only the root has persistent hooks:
// a command that had its own would switch off the environment variables.
func commands() []*cobra.Command {
	return []*cobra.Command{
		newServeCommand(),
		newDevCommand(),
		newSimCommand(),
		newStatusCommand(),
		newMediaHandlerCommand(),
		newMeetingControllerCommand(),
		newMeetingCommand(),
		newVersionCommand(),
		newCompletionCommand(),
	}
}

// run executes one command line, without the program's name, and returns the exit code. The end
// of ctx interrupts the command. getenv answers "" for a variable that is not set.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) int {
	root := newRootCommand()
	root.SetOut(stdout)
	root.SetErr(stderr)
	// Not nil, for which cobra would read os.Args.
	root.SetArgs(append([]string{}, args...))

	// Whatever goes wrong before a command starts is wrong usage.
	started := false
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := bindEnvironment(cmd.Flags(), getenv); err != nil {
			return err
		}
		// Cobra would check these later; here a variable may have set a required flag already.
		if err := cmd.ValidateRequiredFlags(); err != nil {
			return err
		}
		if err := cmd.ValidateFlagGroups(); err != nil {
			return err
		}
		started = true
		return nil
	}

	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(stderr, "conclave: %s\n", printable(err.Error()))
	if usage := new(usageError); started && !errors.As(err, &usage) {
		return exitFailed
	}
	fmt.Fprintf(stderr, "see '%s --help'\n", cmd.CommandPath())
	return exitUsage
}

// usageError is wrong usage that only the running command can see.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

// usageErrorf makes an error for which run prints a hint to the help and returns exitUsage.
func usageErrorf(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "conclave",
		Short: "Global control plane for video conferencing",
		Long: `Conclave decides which meeting controller (MC) and which media handlers (MHs) host a
meeting, and keeps that decision in a Raft cluster of Global Controller replicas.`,
		Example: `  conclave status
  conclave meeting assign standup --region eu
  conclave mh list --region eu -o json`,
		Args:          knownSubcommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return explainFlagError(err) })
	root.SetUsageTemplate(usageTemplate(root.UsageTemplate()))
	root.SetHelpCommand(newHelpCommand())
	root.AddCommand(commands()...)
	return root
}

// usageTemplate adapts cobra's: groups cannot be run by themselves, and every flag is a variable.
func usageTemplate(cobras string) string {
	return strings.Replace(cobras, "{{if .Runnable}}", "{{if and .Runnable (not .HasSubCommands)}}", 1) + `
Every flag is also an environment variable: --grpc-addr is CONCLAVE_GRPC_ADDR.
A flag on the command line wins over the variable, and the variable over the default.
`
}

// newGroup makes a command that is only there for its subcommands.
func newGroup(group *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	group.AddCommand(subcommands...)
	// Cobra greets a group that cannot run with help and success, whatever was asked of it.
	group.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	group.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return knownSubcommand(cmd, args)
		}
		var names []string
		for _, sub := range cmd.Commands() {
			names = append(names, sub.Name())
		}
		return fmt.Errorf("%s needs one of: %s", cmd.Name(), strings.Join(names, ", "))
	}
	return group
}

// knownSubcommand refuses arguments of a group, since cobra passes a subcommand it knows to that
// very subcommand.
func knownSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	// As many letters may differ; cobra sets this only for its own message.
	cmd.SuggestionsMinimumDistance = 2
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		return fmt.Errorf("unknown command %q, did you mean %q?", args[0], similar[0])
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// wantArgs accepts exactly the arguments named, none of them empty.
func wantArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		for i, name := range names {
			if i >= len(args) || args[i] == "" {
				return fmt.Errorf("missing argument %s", name)
			}
		}
		if len(args) > len(names) {
			return fmt.Errorf("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}

// newHelpCommand stands in for cobra's, which succeeds for a command that does not exist.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "Explain a command",
		Example: `  conclave help meeting assign
  conclave meeting assign --help`,
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usageErrorf("no help for %q: unknown command", strings.Join(args, " "))
			}
			topic.InitDefaultHelpFlag()
			return topic.Help()
		},
	}
}
