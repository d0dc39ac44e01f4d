package browser

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// site is what `make run` starts, on loopback ports of its own.
type site struct {
	URL string

	program, config string
	dir             string // to run in; empty: the test's own
	home            string
	process         *os.Process
	ended           chan error // the process's end, once
	output          output
}

// newSite is a site of the root Caddyfile.
func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteOf(t, filepath.Join("..", "..", "Caddyfile"))
}

// newSiteOf writes a Caddyfile anew with its two ports replaced by free ones.
func newSiteOf(t *testing.T, file string) *site {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	port, admin := freePort(t), freePort(t)
	config := string(text)
	for old, fresh := range map[string]string{
		":8013 {":        fmt.Sprintf(":%d {\n\tbind 127.0.0.1", port),
		"localhost:2019": fmt.Sprintf("localhost:%d", admin),
	} {
		if strings.Count(config, old) != 1 {
			t.Fatalf("%s has %q not exactly once", file, old)
		}
		config = strings.Replace(config, old, fresh, 1)
	}
	s := &site{
		URL:     fmt.Sprintf("http://127.0.0.1:%d/", port),
		program: caddy(t),
		config:  filepath.Join(t.TempDir(), "Caddyfile"),
		home:    t.TempDir(),
	}
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// caddy is the binary under test: the one that EDGERELAY_CADDY names, as `make test`
// does with bin/caddy, or else one that is built now.
func caddy(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("EDGERELAY_CADDY"); program != "" {
		return program
	}
	program := filepath.Join(t.TempDir(), "caddy")
	if out, err := exec.Command("go", "build", "-o", program, "../../caddymodule/cmd/caddy").CombinedOutput(); err != nil {
		t.Fatalf("building the relay: %v\n%s", err, out)
	}
	return program
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start runs the relay until stop or the test's end, and returns when it answers.
func (s *site) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(s.program, "run", "--config", s.config, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+s.home, "XDG_CONFIG_HOME="+s.home, "XDG_DATA_HOME="+s.home)
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = &s.output, &s.output
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", s.program, err)
	}
	s.process, s.ended = cmd.Process, make(chan error, 1)
	go func() { s.ended <- cmd.Wait() }()
	t.Cleanup(func() { s.stop(t) })

	retry, deadline := time.NewTicker(20*time.Millisecond), time.After(30*time.Second)
	defer retry.Stop()
	for {
		if answer, err := http.Get(s.URL); err == nil {
			answer.Body.Close()
			return
		}
		select {
		case <-retry.C:
		case err := <-s.ended:
			s.process = nil
			t.Fatalf("the relay ended at once with %v; it said:\n%s", err, s.output.String())
		case <-deadline:
			t.Fatalf("the relay does not answer on %s; it said:\n%s", s.URL, s.output.String())
		}
	}
}

// stop ends the relay as a service manager does, and waits for it.
func (s *site) stop(t *testing.T) {
	if s.process == nil {
		return
	}
	process := s.process
	s.process = nil
	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("stopping the relay: %v", err)
	}
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("the relay ended with %v; it said:\n%s", err, s.output.String())
		}
	case <-time.After(20 * time.Second):
		t.Errorf("the relay did not stop within 20 s of SIGTERM; it said:\n%s", s.output.String())
		_ = process.Kill()
		<-s.ended
	}
}

// output is a buffer that the process and the test may use at once.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
