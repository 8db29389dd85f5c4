package figures

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Write writes a report for people, in Markdown, and the same for programs, as path.md and
// path.json. It makes the folder.
func Write(path, markdown string, report any) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err == nil {
		err = os.WriteFile(path+".json", append(text, '\n'), 0o644)
	}
	if err == nil {
		err = os.WriteFile(path+".md", []byte(markdown), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}
