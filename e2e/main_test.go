package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/conclave-rtc/conclave/chaos"
)

// binary is the program under test, in a folder that lasts as long as the tests.
var binary string

// withFaultyDisk builds the program with disks that a test can make to fail.
func withFaultyDisk(t *testing.T) string {
	t.Helper()
	built, err := buildWithFaultyDisk()
	if err != nil {
		t.Fatal(err)
	}
	return built
}

var buildWithFaultyDisk = sync.OnceValues(func() (string, error) {
	return chaos.UnderTest(context.Background(), "..", filepath.Dir(binary))
})

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "conclave-e2e-binary-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a folder for the binary:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "conclave")
	build := exec.Command("go", "build", "-o", binary, "github.com/conclave-rtc/conclave/cmd/conclave")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build conclave: %v\n%s", err, out)
		return 1
	}
	// Variables of the machine's own Conclave would become flags of the replicas.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "CONCLAVE_") {
			os.Unsetenv(name)
		}
	}
	return m.Run()
}

// result is how one run of the program ended.
type result struct {
	stdout, stderr string
	code           int
}

// conclave runs the program until it ends by itself.
func conclave(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(patience(t, runPatience), binary, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("run conclave: %v", err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}
