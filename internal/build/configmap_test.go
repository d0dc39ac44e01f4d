package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// configMap is a folder in which files change as Kubernetes changes a mounted ConfigMap: each file is a link into
// ..data, a link that one rename points to a new folder.
type configMap struct {
	t       *testing.T
	dir     string
	version int
}

// write replaces the Caddyfile.
func (c *configMap) write(text string) {
	c.t.Helper()
	c.version++
	name := fmt.Sprintf("..%d", c.version)
	steps := []func() error{
		func() error { return os.Mkdir(filepath.Join(c.dir, name), 0o755) },
		func() error { return os.WriteFile(filepath.Join(c.dir, name, "Caddyfile"), []byte(text), 0o600) },
		func() error { return os.Symlink(name, filepath.Join(c.dir, "..data_tmp")) },
		func() error { return os.Rename(filepath.Join(c.dir, "..data_tmp"), filepath.Join(c.dir, "..data")) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			c.t.Fatal(err)
		}
	}
	link := filepath.Join(c.dir, "Caddyfile")
	if _, err := os.Lstat(link); err != nil {
		if err := os.Symlink(filepath.Join("..data", "Caddyfile"), link); err != nil {
			c.t.Fatal(err)
		}
	}
}

// The chart's pods reload a changed ConfigMap by themselves, and keep the current configuration if the new one is
// faulty. Caddy 2.11.9 then stops watching; the remedy that the documentation names is a reload by hand.
func TestWatchedConfigMap(t *testing.T) {
	port := testkit.FreePort(t)
	admin := filepath.Join(t.TempDir(), "admin.sock")
	caddyfile := func(answer string) string {
		return fmt.Sprintf("{\n\tadmin unix/%s\n\tpersist_config off\n\tauto_https off\n}\n:%d {\n\trespond %q\n}\n", admin, port, answer)
	}
	c := &configMap{t: t, dir: t.TempDir()}
	c.write(caddyfile("first"))
	program, args := os.Getenv("EDGERELAY_CADDY"), []string{"run", "--config", filepath.Join(c.dir, "Caddyfile"), "--adapter", "caddyfile", "--watch"}
	if program == "" {
		program = filepath.Join(t.TempDir(), "caddy")
		build := exec.Command("go", "build", "-o", program, "./caddymodule/cmd/caddy")
		build.Dir = filepath.Join("..", "..")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
	var log testkit.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	answers := func(want string) func() bool {
		return func() bool {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
			if err != nil {
				return false
			}
			defer func() { _ = resp.Body.Close() }()
			text := make([]byte, 64)
			n, _ := resp.Body.Read(text)
			return string(text[:n]) == want
		}
	}
	testkit.Eventually(t, "the first configuration", answers("first"))
	c.write(caddyfile("second"))
	testkit.Eventually(t, "the second configuration", answers("second"))
	c.write("faulty {\n")
	testkit.Eventually(t, "the error in the log", func() bool {
		return len(log.String()) > 0 && containsAll(log.String(), `"level":"error"`, "Caddyfile")
	})
	if !answers("second")() {
		t.Error("a faulty configuration took effect")
	}
	c.write(caddyfile("third"))
	reload := exec.Command(program, "reload", "--config", args[2], "--adapter", "caddyfile", "--address", "unix/"+admin)
	reload.Env = cmd.Env
	if out, err := reload.CombinedOutput(); err != nil {
		t.Fatalf("caddy reload: %v\n%s", err, out)
	}
	testkit.Eventually(t, "the configuration after the faulty one", answers("third"))
}

func containsAll(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}
