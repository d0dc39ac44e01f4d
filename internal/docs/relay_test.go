package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// relay is a Caddy with the Caddyfile of `make run`, on free ports.
type relay struct {
	program    string
	url, admin string // host and port, as in localhost:8013
	home       string
}

// newRelay starts the relay.
func newRelay(t *testing.T) *relay {
	t.Helper()
	r := &relay{
		program: os.Getenv("EDGERELAY_CADDY"),
		url:     fmt.Sprintf("localhost:%d", testkit.FreePort(t)),
		admin:   fmt.Sprintf("localhost:%d", testkit.FreePort(t)),
		home:    t.TempDir(),
	}
	if r.program == "" {
		r.program = filepath.Join(t.TempDir(), "caddy")
		build := exec.Command("go", "build", "-o", r.program, "../../caddymodule/cmd/caddy")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building the relay: %v\n%s", err, out)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	config := strings.ReplaceAll(r.here(string(text)), ":8013 {", "http://"+r.url+" {\n\tbind 127.0.0.1")
	// Snippets are tried in several places, so most requests to the adapter fail.
	config = strings.Replace(config, "level WARN", "level WARN\n\t\texclude admin.api", 1)
	file := filepath.Join(r.home, "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := r.command(context.Background(), "run", "--config", file)
	cmd.Dir = root // of the plugin's module
	process.Start(t, "the relay", cmd).Ready(t, func() error {
		resp, err := http.Get("http://" + r.url + "/health")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("health: %s", resp.Status)
		}
		return nil
	})
	r.openPage(t)
	return r
}

// openPage subscribes to the group of the examples, as the demo page does that a reader has open: the relay keeps
// events of groups that have had a client.
func (r *relay) openPage(t *testing.T) {
	t.Helper()
	resp, err := http.Get("http://" + r.url + "/websocket/?group=jobs-status_changed&wait=0")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("subscribing: %s", resp.Status)
	}
}

// here replaces the addresses of `make run` by those of the relay.
func (r *relay) here(text string) string {
	return strings.NewReplacer("localhost:8013", r.url, "localhost:2019", r.admin).Replace(text)
}

func (r *relay) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.program, args...)
	cmd.Env = append(os.Environ(), "HOME="+r.home, "XDG_DATA_HOME="+r.home, "XDG_CONFIG_HOME="+r.home)
	return cmd
}

// frames are places in a Caddyfile where a page's snippet may belong.
var frames = []struct{ name, before, after string }{
	{"a whole Caddyfile", "", ""},
	{"global options", "{\n", "}\n:8000 {\n\tedgerelay\n}\n"},
	{"the global option edgerelay", "{\n\tedgerelay {\n", "\t}\n}\n:8000 {\n\tedgerelay\n}\n"},
	{"a site", "{\n}\n:8000 {\n", "}\n"},
	{"sites", "{\n}\n", ""},
	{"the directive edgerelay", "{\n}\n:8000 {\n\tedgerelay {\n", "\t}\n}\n"},
	{"a route", "{\n}\n:8000 {\n\tedgerelay {\n\t\troute /ws/{room}/ {\n\t\t\tgroups chat_{room}\n", "\t\t}\n\t}\n}\n"},
}

var hasAuth = regexp.MustCompile(`(?m)^\s*auth `)

// withAuth adds `auth none` to a Caddyfile whose global options have no auth.
func withAuth(config string) string {
	var options strings.Builder
	depth, begun := 0, false
	rest := config
	for line := range strings.Lines(config) {
		rest = rest[len(line):]
		switch text := strings.TrimSpace(line); {
		case text == "{" && depth == 0:
			begun = true
			depth++
		case !begun && text != "" && text[0] != '#':
			return config // no global options
		case strings.HasSuffix(text, "{"):
			depth++
		case text == "}":
			depth--
		}
		if begun && depth == 0 {
			break
		}
		options.WriteString(line)
	}
	switch head, tail, found := strings.Cut(options.String(), "edgerelay {"); {
	case !found:
		return head + "edgerelay {\n\tauth none\n}\n}\n" + rest
	case !hasAuth.MatchString(tail):
		return head + "edgerelay {\n\tauth none\n" + tail + "}\n" + rest
	}
	return config
}

var (
	environment = regexp.MustCompile(`\{\$?env\.(\w+)\}|\{\$(\w+)\}`)
	secretFile  = regexp.MustCompile(`\{file\./run/secrets/(\w+)\}`)
	// missingModule is the last check of a plugin's block: the pages' modules do not exist.
	missingModule = regexp.MustCompile(`read its module: stat \S+\.wasm: no such file`)
)

// secret returns the value of a variable or file with a secret: no two keys may have the same.
func secret(name string) string { return "the test's secret of more than 32 bytes for " + name }

// validate has the real binary validate a snippet of a Caddyfile.
func (r *relay) validate(t *testing.T, snippet string) error {
	var errs []string
	for _, f := range frames {
		config := withAuth(f.before + snippet + f.after)
		if err := r.adapt(config); err != nil {
			errs = append(errs, f.name+": "+err.Error())
			continue
		}
		err := r.provision(t, config)
		if err == nil {
			return nil
		}
		errs = append(errs, f.name+": "+err.Error())
	}
	return fmt.Errorf("not valid in any place:\n  %s", strings.Join(errs, "\n  "))
}

// adapt asks the running Caddy whether the Caddyfile can be read, in a millisecond.
func (r *relay) adapt(config string) error {
	resp, err := http.Post("http://"+r.admin+"/adapt", "text/caddyfile", strings.NewReader(config))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%.300s", body)
	}
	return err
}

// provision runs `caddy validate`, which loads all modules of the Caddyfile and starts none.
func (r *relay) provision(t *testing.T, config string) error {
	dir := t.TempDir()
	for _, m := range secretFile.FindAllStringSubmatch(config, -1) {
		file := filepath.Join(dir, m[1])
		if err := os.WriteFile(file, []byte(secret(m[1])), 0o600); err != nil {
			return err
		}
		config = strings.ReplaceAll(config, m[0], "{file."+file+"}")
	}
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(config), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Scale(30*time.Second))
	defer cancel()
	cmd := r.command(ctx, "validate", "--config", "Caddyfile")
	cmd.Dir = dir
	// The relay's own storage may have a deployment of a plugin with the same name.
	cmd.Env = append(cmd.Env, "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	for _, m := range environment.FindAllStringSubmatch(config, -1) {
		value := secret(m[1] + m[2])
		if strings.HasSuffix(m[1]+m[2], "_URL") {
			value = "redis://127.0.0.1:6379/0"
		}
		cmd.Env = append(cmd.Env, m[1]+m[2]+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if err != nil && !missingModule.Match(out) {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s", lines[len(lines)-1])
	}
	return nil
}
