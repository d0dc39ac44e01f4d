package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

const (
	// asProgram makes the test binary a Caddy with this package, under the name of its first argument.
	asProgram = "EDGERELAY_TEST_PROGRAM"
	// asOnTerminal makes that program believe that it has a terminal.
	asOnTerminal = "EDGERELAY_TEST_TERMINAL"
)

// runAsProgram runs Caddy's main function in place of the tests, if the environment asks for it.
func runAsProgram() {
	if os.Getenv(asProgram) == "" {
		return
	}
	if os.Getenv(asOnTerminal) != "" {
		onTerminal = func() bool { return true }
	}
	caddycmd.Main()
	os.Exit(0)
}

// ran is what a program wrote, and its exit code.
type ran struct {
	stdout, stderr string
	code           int
}

// program prepares a Caddy with this package, under the name of the first word.
func program(t *testing.T, words ...string) *exec.Cmd {
	t.Helper()
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file)
	cmd.Args = words
	home := t.TempDir()
	cmd.Env = append(os.Environ(), asProgram+"=1", "CADDY_ADMIN=", "HOME="+home, "XDG_DATA_HOME="+home,
		"XDG_CONFIG_HOME="+home)
	return cmd
}

// runProgram runs a prepared program.
func runProgram(t *testing.T, cmd *exec.Cmd) ran {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ran{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// fakeAdmin serves an admin API that answers GET requests by path, and others with the status 500. It returns the
// address, and the requests that were not GET.
func fakeAdmin(t *testing.T, answers map[string]string) (address string, changes func() []string) {
	t.Helper()
	seen := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if r.Method != http.MethodGet {
			seen <- r.Method + " " + r.URL.Path + " " + r.Header.Get("If-Match") + " " + r.URL.Query().Get("candidate")
			ok = false
		}
		w.Header().Set("Content-Type", "application/json")
		if !ok {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), func() (list []string) {
		for len(seen) > 0 {
			list = append(list, strings.TrimSpace(<-seen))
		}
		return list
	}
}
