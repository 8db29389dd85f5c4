package assign

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// secret is a string that no formatting shows. A function holds it, because fmt prints the
// unexported fields of a struct without asking their methods.
type secret struct{ reveal func() string }

func newSecret(s string) secret { return secret{func() string { return s }} }

const redacted = "[redacted]"

func (secret) String() string               { return redacted }
func (secret) GoString() string             { return redacted }
func (secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format covers every verb, those for bytes included.
func (secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// TokenFile is the bearer token sent to meeting controllers. The file is read again when it
// changes; while it cannot be read, the last token stays.
type TokenFile struct {
	path string
	log  hclog.Logger

	mu      sync.Mutex
	token   secret
	checked time.Time
	stamp   fileStamp
}

type fileStamp struct {
	modified time.Time
	size     int64
}

// tokenCheckInterval is how often the file is looked at.
const tokenCheckInterval = time.Second

// OpenTokenFile reads the token for the first time. An empty path means no token.
func OpenTokenFile(path string, log hclog.Logger) (*TokenFile, error) {
	f := &TokenFile{path: path, log: log}
	if path == "" {
		return f, nil
	}
	f.checked = time.Now()
	if err := f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

// header is the value of the authorization header, empty when there is no token.
func (f *TokenFile) header() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.path == "" {
		return ""
	}
	if time.Since(f.checked) >= tokenCheckInterval {
		f.checked = time.Now()
		if err := f.read(); err != nil {
			f.log.Warn("keeping the last token for meeting controllers", "error", err)
		}
	}
	return "Bearer " + f.token.reveal()
}

// read reads the file if it is not what it was. Its errors never hold what the file holds.
func (f *TokenFile) read() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("read --mc-token-file: %w", err)
	}
	stamp := fileStamp{info.ModTime(), info.Size()}
	if stamp == f.stamp {
		return nil
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read --mc-token-file: %w", err)
	}
	token := bytes.TrimSpace(data)
	if len(token) == 0 {
		return errors.New("--mc-token-file is empty")
	}
	if i := bytes.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return fmt.Errorf("--mc-token-file: byte %d is not a visible ASCII character", i)
	}
	f.token, f.stamp = newSecret(string(token)), stamp
	return nil
}
