package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// Set by the linker for a release: -ldflags "-X main.version=v1.2.3 -X main.commit=abc".
var (
	version string
	commit  string
)

// buildInfo says what was built from what with what.
type buildInfo struct {
	Version   string `json:"version"`
	Commit    string `json:"commit"`
	GoVersion string `json:"go_version"`
}

// buildVersion is the version that this program gives for itself.
func buildVersion() string { return readBuild().Version }

// readBuild prefers what the linker was told to what the Go tool recorded.
func readBuild() buildInfo {
	recorded, _ := debug.ReadBuildInfo()
	return describeBuild(version, commit, recorded)
}

// describeBuild fills the gaps of what the linker was told from what was recorded, if anything.
func describeBuild(version, commit string, recorded *debug.BuildInfo) buildInfo {
	build := buildInfo{Version: version, Commit: commit, GoVersion: runtime.Version()}
	if recorded != nil {
		if build.Version == "" {
			build.Version = recorded.Main.Version
		}
		if build.Commit == "" {
			build.Commit = recordedCommit(recorded)
		}
	}
	if build.Version == "" {
		build.Version = "(devel)"
	}
	if build.Commit == "" {
		build.Commit = "unknown"
	}
	return build
}

func recordedCommit(recorded *debug.BuildInfo) string {
	var revision, suffix string
	for _, setting := range recorded.Settings {
		switch {
		case setting.Key == "vcs.revision":
			revision = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			suffix = "-dirty"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + suffix
}

func newVersionCommand() *cobra.Command {
	format := outputTable
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and Go version",
		Example: `  conclave version
  conclave version -o json`,
		Args: wantArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printVersion(cmd.OutOrStdout(), format, readBuild())
		},
	}
	addOutputFlag(cmd.Flags(), &format)
	return cmd
}

func printVersion(w io.Writer, format outputFormat, build buildInfo) error {
	if format == outputJSON {
		return printJSON(w, build)
	}
	return printTable(w, func(t *tabwriter.Writer) {
		row(t, "conclave", build.Version)
		row(t, "commit", build.Commit)
		row(t, "go", fmt.Sprintf("%s %s/%s", build.GoVersion, runtime.GOOS, runtime.GOARCH))
	})
}
