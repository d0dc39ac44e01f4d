// Package peers starts the real things that the relay meets in production, for
// tests: Redis, a channels_redis channel layer in Python, a Django + Channels +
// Daphne controller, and the relay itself in a real Caddy.
//
// Every server listens on 127.0.0.1 on a port of its own, keeps its files in the
// test's temporary directory, and ends with the test. A test that fails prints
// what its processes wrote. A program that is not installed fails the test and
// names the Debian package that brings it: nothing here skips.
//
// The functions are for use in tests only: they take a [testing.TB] and end the
// test when they cannot do what they say.
package peers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const modulePath = "github.com/edgerelay/edgerelay"

// Root returns the directory of this module's go.mod, found upwards from the
// directory in which the test runs.
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
