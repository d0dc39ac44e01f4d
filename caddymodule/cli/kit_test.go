package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// outcome is what a command in this process wrote, and its exit code.
type outcome struct {
	stdout, stderr string
	code           int
}

// execute runs a command in this process.
func execute(t *testing.T, args ...string) outcome {
	t.Helper()
	root := tree().Root()
	root.SilenceErrors = true // as in Caddy's main
	var stderr bytes.Buffer
	root.SetErr(&stderr)
	root.SetArgs(append([]string{"edgerelay"}, args...))
	var err error
	stdout := captureStdout(t, func() { err = root.Execute() })
	return outcome{stdout, stderr.String(), codeOf(err)}
}

// codeOf returns the exit code of Caddy for an error of a command.
func codeOf(err error) int {
	if err == nil {
		return 0
	}
	for _, code := range []int{exitUsage, exitUnreachable} {
		if err.Error() == fmt.Sprint("exiting with status ", code) {
			return code
		}
	}
	return exitFailed
}

// captureStdout returns what run writes to the standard output.
func captureStdout(t *testing.T, run func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = before }()
	text := make(chan string)
	go func() {
		b, _ := io.ReadAll(r)
		text <- string(b)
	}()
	run()
	_ = w.Close()
	return <-text
}

// wantError checks that a command failed with one line on stderr that has all words, and wrote nothing else.
func (o outcome) wantError(t *testing.T, code int, words ...string) {
	t.Helper()
	if o.code != code || o.stdout != "" || strings.Count(o.stderr, "\n") != 1 || !strings.HasPrefix(o.stderr, "error: ") {
		t.Errorf("exit code %d, stdout %q, stderr %q; want %d and one line on stderr", o.code, o.stdout, o.stderr, code)
	}
	for _, word := range words {
		if !strings.Contains(o.stderr, word) {
			t.Errorf("stderr %q lacks %q", o.stderr, word)
		}
	}
}
