package browser

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// site is what `make run` starts, on loopback ports of its own.
type site struct {
	URL string
	// Admin is the URL of Caddy's admin API without a slash at the end.
	Admin string

	program, config string
	dir             string // to run in; empty: the test's own
	stdout          io.Writer
	home            string
	process         *process.Process
}

// newSite is a site of the root Caddyfile.
func newSite(t *testing.T) *site {
	t.Helper()
	s := newSiteOf(t, filepath.Join("..", "..", "Caddyfile"))
	s.dir = filepath.Join("..", "..") // the plugin's path is relative to the root
	return s
}

// sitePort and adminPort are the two ports of a Caddyfile.
var (
	sitePort  = regexp.MustCompile(`:80\d\d \{`)
	adminPort = regexp.MustCompile(`localhost:20\d\d\b`)
)

// newSiteOf makes a site of a Caddyfile with free ports in place of its two ports.
func newSiteOf(t *testing.T, file string) *site {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	port, admin := testkit.FreePort(t), testkit.FreePort(t)
	config := withDefaults(string(text))
	for old, fresh := range map[*regexp.Regexp]string{
		sitePort:  fmt.Sprintf(":%d {\n\tbind 127.0.0.1", port),
		adminPort: fmt.Sprintf("localhost:%d", admin),
	} {
		if len(old.FindAllString(config, -1)) != 1 {
			t.Fatalf("%s has %v not exactly once", file, old)
		}
		config = old.ReplaceAllLiteralString(config, fresh)
	}
	s := &site{
		URL:     fmt.Sprintf("http://127.0.0.1:%d/", port),
		Admin:   fmt.Sprintf("http://localhost:%d", admin),
		program: caddy(t),
		config:  filepath.Join(t.TempDir(), "Caddyfile"),
		home:    t.TempDir(),
	}
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// devVariable is a variable of plugin dev in the Caddyfile of a new plugin, with its default.
var devVariable = regexp.MustCompile(`\{\$DEV_[A-Z]+:([^}]*)\}`)

// withDefaults replaces the variables of plugin dev by their defaults, as Caddy does without plugin dev.
func withDefaults(config string) string { return devVariable.ReplaceAllString(config, "$1") }

// caddy is the binary under test: the one that EDGERELAY_CADDY names, as `make test`
// does with bin/caddy, or else one that is built now.
func caddy(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("EDGERELAY_CADDY"); program != "" {
		return program
	}
	program := filepath.Join(t.TempDir(), "caddy")
	if out, err := exec.Command("go", "build", "-o", program,
		"../../caddymodule/cmd/caddy").CombinedOutput(); err != nil {
		t.Fatalf("building the relay: %v\n%s", err, out)
	}
	return program
}

// start runs the relay until stop or the test's end, and returns when it answers.
func (s *site) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(s.program, "run", "--config", s.config, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+s.home, "XDG_CONFIG_HOME="+s.home, "XDG_DATA_HOME="+s.home)
	cmd.Dir = s.dir
	if s.stdout != nil {
		cmd.Stdout = s.stdout
	}
	s.process = process.Start(t, "the relay", cmd)
	s.process.Ready(t, func() error {
		answer, err := http.Get(s.URL)
		if err == nil {
			_ = answer.Body.Close()
		}
		return err
	})
	t.Cleanup(func() { s.stop(t) })
}

// stop ends the relay as a service manager does, if it still runs, and waits for its end.
func (s *site) stop(t *testing.T) {
	t.Helper()
	if s.process == nil {
		return
	}
	p := s.process
	s.process = nil
	if err := p.Stop(t, 20*time.Second); err != nil {
		t.Errorf("the relay ended with %v", err)
	}
}
