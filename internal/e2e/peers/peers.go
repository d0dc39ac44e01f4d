// Package peers starts the real peers of the relay for tests: Redis, a channels_redis channel layer in Python, a
// controller of Django, Channels and Daphne, and the relay itself in a real Caddy.
//
// Every server listens on a free port of 127.0.0.1, keeps its files in the temporary directory of the test, and ends
// with the test. A failed test prints the output of its processes. A missing program fails the test and names the
// Debian packages; no test is skipped.
//
// The functions take a [testing.TB] and end the test on an error.
package peers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const modulePath = "github.com/edgerelay/edgerelay"

// Root returns the directory of the go.mod of this module, found upward from the working directory of the test.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module "+modulePath+"\n") {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("no go.mod of " + modulePath +
				" above the working directory: run the tests inside the repository")
		}
		dir = filepath.Dir(dir)
	}
}
