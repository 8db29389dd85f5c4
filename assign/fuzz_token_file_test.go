package assign

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
	"unicode"

	"github.com/hashicorp/go-hclog"
)

var (
	// wellFormed is what a token file may always hold.
	wellFormed = regexp.MustCompile(`^[\t\n\v\f\r ]*([!-~]+)[\t\n\v\f\r ]*$`)
	// tokenErrors are all that may be said of a file that holds no token: no part of it.
	tokenErrors = regexp.MustCompile(`^--mc-token-file( is empty|: byte \d+ is not a visible ASCII character)$`)
	tokenHeader = regexp.MustCompile(`^Bearer ([!-~]+)$`)
)

// FuzzTokenFile: whatever the file holds, a header is made of a whole token or not at all, errors
// do not show the file, and a file that has become unreadable leaves the last token in use.
func FuzzTokenFile(f *testing.F) {
	for _, content := range []string{"", "token", " token\r\n", "two words", "a\nb", "\ufefftoken", "t\u00f6ken", "token\u0085", "\x00", "\xff"} {
		f.Add([]byte(content), []byte("next"))
		f.Add([]byte("first"), []byte(content))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		path := filepath.Join(t.TempDir(), "token")
		write := func(content []byte, modified time.Time) {
			if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chtimes(path, modified, modified)); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Unix(1_700_000_000, 0)
		write(first, start)
		file, err := OpenTokenFile(path, hclog.NewNullLogger())
		if err != nil {
			checkNoToken(t, first, err)
			return
		}
		header := file.header()
		checkHeader(t, first, header)

		write(second, start.Add(time.Second))
		if err := file.read(); err != nil {
			checkNoToken(t, second, err)
			if again := file.header(); again != header {
				t.Errorf("after %q became %q the header went from %q to %q", first, second, header, again)
			}
			return
		}
		checkHeader(t, second, file.header())
	})
}

func checkNoToken(t *testing.T, content []byte, err error) {
	if !tokenErrors.MatchString(err.Error()) {
		t.Errorf("%q is refused with %q", content, err)
	}
	if wellFormed.Match(content) {
		t.Errorf("%q is a token, and refused: %v", content, err)
	}
}

func checkHeader(t *testing.T, content []byte, header string) {
	parts := tokenHeader.FindStringSubmatch(header)
	if parts == nil || parts[1] != string(bytes.TrimFunc(content, unicode.IsSpace)) {
		t.Errorf("of %q is made the header %q", content, header)
	}
}
