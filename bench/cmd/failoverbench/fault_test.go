package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

func TestStoppedProcessIsSeenAsStopped(t *testing.T) {
	if _, err := os.Stat("/proc/self/task"); err != nil {
		t.Skip("states of threads are found in /proc")
	}
	stopped, err := allStopped(os.Getpid())
	if err != nil || stopped {
		t.Errorf("this process is stopped: %v, %v", stopped, err)
	}
	sleep := exec.Command("sleep", "600")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	})
	if err := sleep.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := awaitStopped(t.Context(), sleep.Process.Pid); err != nil {
		t.Error(err)
	}
}
