package e2e

import (
	"bufio"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A terminal sends Ctrl-C to the replicas of the demo too, if it can. The demo ends the joining then, and
// owes a verdict on a cluster that still runs.
func TestCtrlCEndsTheDemoWithItsVerdict(t *testing.T) {
	demo := exec.CommandContext(patience(t, time.Minute), binary, "dev", "--mhs", "4", "--mcs", "2", "--region", "r",
		"--joiners", "2", "--rate", "50", "--load-report-interval", "200ms", "--stale-after", "2s")
	demo.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	demo.Stderr = new(strings.Builder)
	out, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	interrupted := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "| joins ") && !strings.Contains(lines.Text(), "| joins 0") && !interrupted {
			interrupted = true
			if err := syscall.Kill(-demo.Process.Pid, syscall.SIGINT); err != nil {
				t.Error(err)
			}
		}
	}
	if err := demo.Wait(); err != nil || !strings.Contains(said.String(), "VERDICT: the cluster kept its word") {
		t.Errorf("after Ctrl-C: %v\n%s%s", err, said.String(), demo.Stderr)
	}
}
