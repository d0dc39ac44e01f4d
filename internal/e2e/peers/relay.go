package peers

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// Relay is a Caddy with the edgerelay module.
type Relay struct {
	*process.Process
	// URL is http://host:port of the site, Admin the same of the admin API, both without a slash at the end.
	URL, Admin string

	t      testing.TB
	binary string
	under  []string
	env    []string
	dir    string
	file   string
}

// BinaryVariable names an environment variable with the path of the Caddy under test. Without it the tests build one
// from the sources. The Caddy may come from xcaddy, or be built with -race: a data race fails the test.
const BinaryVariable = "EDGERELAY_CADDY"

// StartRelay starts a Caddy with a Caddyfile and waits until the site and the admin API answer. In a Caddyfile, here
// and in [Relay.Load], {$SITE} stands for the address of the site and {$ADMIN} for the address of the admin API.
func StartRelay(t testing.TB, caddyfile string) *Relay {
	t.Helper()
	return StartRelayUnder(t, caddyfile)
}

// StartRelayUnder is StartRelay under a command that executes its last arguments, such as prlimit.
func StartRelayUnder(t testing.TB, caddyfile string, under ...string) *Relay {
	t.Helper()
	site, admin := testkit.Loopback(testkit.FreePort(t)), testkit.Loopback(testkit.FreePort(t))
	dir := t.TempDir()
	r := &Relay{
		URL: "http://" + site, Admin: "http://" + admin,
		t: t, binary: buildRelay(t), under: under, dir: dir, file: filepath.Join(dir, "Caddyfile"),
		env: append(os.Environ(),
			"HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir),
	}
	r.Restart(caddyfile)
	return r
}

// http.DefaultClient must survive reloads.
func init() {
	http.DefaultClient.Transport = testkit.Patient(http.DefaultTransport.(*http.Transport))
}

// Restart starts the relay again at the same addresses with a Caddyfile, after Kill or Stop, and waits until the relay
// answers.
func (r *Relay) Restart(caddyfile string) {
	r.t.Helper()
	t := r.t
	if err := os.WriteFile(r.file, []byte(r.expand(caddyfile)), 0o600); err != nil {
		t.Fatal(err)
	}
	run := append(slices.Clone(r.under), r.binary, "run", "--config", r.file, "--adapter", "caddyfile")
	cmd := exec.Command(run[0], run[1:]...)
	cmd.Env, cmd.Dir = r.env, r.dir
	r.Process = process.Start(t, "relay", cmd)
	process := r.Process
	t.Cleanup(func() {
		for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "\"panic\""} {
			if strings.Contains(process.Log(), bad) {
				t.Errorf("the relay wrote %q", bad)
			}
		}
	})
	for _, address := range []string{r.Admin + "/config/", r.URL + "/"} {
		r.Ready(t, func() error {
			resp, err := http.Get(address)
			if err != nil {
				return err
			}
			return resp.Body.Close()
		})
	}
}

// Replace stops the relay, as an upgrade does, and starts it again with another Caddy.
func (r *Relay) Replace(binary, caddyfile string) {
	r.t.Helper()
	if err := r.Stop(r.t, testkit.Patience); err != nil {
		r.t.Fatal(err)
	}
	r.binary = binary
	r.Restart(caddyfile)
}

// Command returns a command of the Caddy under test: "edgerelay", "publish", ...
func (r *Relay) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(r.binary, args...)
	cmd.Env = r.env
	cmd.Dir = r.dir
	return cmd
}

// Load gives the running Caddy a new Caddyfile, as `caddy reload` does. It returns an error if Caddy rejects the file.
func (r *Relay) Load(caddyfile string) error {
	resp, err := http.Post(r.Admin+"/load", "text/caddyfile", strings.NewReader(r.expand(caddyfile)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("load: %s: %s", resp.Status, body)
	}
	return nil
}

func (r *Relay) expand(caddyfile string) string {
	return strings.NewReplacer("{$SITE}", r.URL, "{$ADMIN}", strings.TrimPrefix(r.Admin, "http://")).Replace(caddyfile)
}

// RelayBinary returns the path of the Caddy to test.
func RelayBinary(t testing.TB) string {
	t.Helper()
	return buildRelay(t)
}

var (
	buildOnce sync.Once
	buildPath string
	buildErr  error
)

// buildRelay returns the path of the Caddy to test. A test process builds it once.
func buildRelay(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() {
		if given := os.Getenv(BinaryVariable); given != "" {
			buildPath, buildErr = filepath.Abs(given)
			return
		}
		root, err := moduleRoot()
		if err != nil {
			buildErr = err
			return
		}
		dir, err := os.MkdirTemp("", "edgerelay-e2e-")
		if err != nil {
			buildErr = err
			return
		}
		buildPath = filepath.Join(dir, "caddy")
		cmd := exec.Command("go", "build", "-o", buildPath, "./caddymodule/cmd/caddy")
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("go build ./caddymodule/cmd/caddy: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return buildPath
}

// Main runs the tests of a package that starts relays and removes the built Caddy:
// func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }.
func Main(m *testing.M) int {
	code := m.Run()
	if buildPath != "" && os.Getenv(BinaryVariable) == "" {
		if err := os.RemoveAll(filepath.Dir(buildPath)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return code
}

// Binary returns the Caddy with the module, for commands that need no running relay.
func Binary(t testing.TB) string { return buildRelay(t) }
