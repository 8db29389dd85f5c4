package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newCompletionCommand stands in for cobra's, which succeeds for a shell that it does not know.
func newCompletionCommand() *cobra.Command {
	shells := []string{"bash", "fish", "powershell", "zsh"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a completion script for a shell",
		Long:  "Print a completion script for " + strings.Join(shells, ", ") + ".",
		Example: `  source <(conclave completion bash)
  conclave completion fish > ~/.config/fish/completions/conclave.fish`,
		Args:      wantArgs("SHELL"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, w := cmd.Root(), cmd.OutOrStdout()
			var err error
			switch args[0] {
			case "bash":
				err = root.GenBashCompletionV2(w, true)
			case "fish":
				err = root.GenFishCompletion(w, true)
			case "powershell":
				err = root.GenPowerShellCompletionWithDesc(w)
			case "zsh":
				err = root.GenZshCompletion(w)
			default:
				return usageErrorf("no completion for %q: want one of %s", args[0], strings.Join(shells, ", "))
			}
			if err != nil {
				return fmt.Errorf("writing the completion script: %w", err)
			}
			return nil
		},
	}
}
