package product

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Commit is the short commit of the source in root, with a mark when files differ from it, and
// "unknown" when git does not tell.
func Commit(root string) string {
	git := func(args ...string) (string, bool) {
		out, err := exec.Command("git", append([]string{"-C", root}, args...)...).Output()
		return strings.TrimSpace(string(out)), err == nil
	}
	name, ok := git("rev-parse", "--short", "HEAD")
	if !ok {
		return "unknown"
	}
	if changed, ok := git("status", "--porcelain"); !ok || changed != "" {
		name += "-dirty"
	}
	return name
}

// Build builds the binary of the source in root as it is shipped, and returns its path, which is in
// dir.
func Build(ctx context.Context, root, dir string) (string, error) {
	binary, err := filepath.Abs(filepath.Join(dir, "conclave"))
	if err != nil {
		return "", fmt.Errorf("build conclave: %w", err)
	}
	cmd := exec.CommandContext(ctx, "make", "-s", "-C", root, "build", "BINARY="+binary)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build conclave: %w", err)
	}
	return binary, nil
}
