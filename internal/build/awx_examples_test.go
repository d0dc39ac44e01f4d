package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// adapted is the part of an adapted Caddyfile that the tests examine.
type adapted struct {
	Admin struct{ Listen string }
	Apps  struct {
		Edgerelay struct{ Auth struct{ Kind, URL string } }
		HTTP      struct {
			Servers map[string]struct {
				TrustedProxies       any `json:"trusted_proxies"`
				TrustedProxiesStrict int `json:"trusted_proxies_strict"`
				Routes               any
				Logs                 any
			}
		}
	}
}

// handlers returns the handlers of a kind, at any depth of routes.
func handlers(in any, kind string) (found []map[string]any) {
	switch in := in.(type) {
	case []any:
		for _, e := range in {
			found = append(found, handlers(e, kind)...)
		}
	case map[string]any:
		if in["handler"] == kind {
			found = append(found, in)
		}
		for _, e := range in {
			found = append(found, handlers(e, kind)...)
		}
	}
	return found
}

// Every Caddyfile for AWX keeps the admin API away from AWX's users, trusts only the nearest proxy, and speaks to
// uWSGI as nginx does.
func TestExamplesForAWX(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "examples", "awx", "Caddyfile*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("examples: %v (%v)", files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			out, err := caddyCommand(t, "adapt", "--config", filepath.Join("examples", "awx", name), "--adapter",
				"caddyfile").Output()
			if err != nil {
				t.Fatal(err)
			}
			var c adapted
			if err := json.Unmarshal(out, &c); err != nil {
				t.Fatal(err)
			}
			if c.Admin.Listen != "unix//run/edgerelay/admin.sock|0600" {
				t.Errorf("the admin API listens on %q", c.Admin.Listen)
			}
			if auth := c.Apps.Edgerelay.Auth; auth.Kind != "awx" || auth.URL != "uwsgi://127.0.0.1:8050" {
				t.Errorf("auth %s asks %s", auth.Kind, auth.URL)
			}
			for name, s := range c.Apps.HTTP.Servers {
				if s.TrustedProxies != nil && s.TrustedProxiesStrict == 0 {
					t.Errorf("%s trusts proxies without strict", name)
				}
				if s.Logs == nil {
					t.Errorf("%s has no access log", name)
				}
				proxies := handlers(s.Routes, "reverse_proxy")
				if len(proxies) != 1 {
					t.Errorf("%s has %d reverse_proxy", name, len(proxies))
				}
				for _, p := range proxies {
					if transport, _ := p["transport"].(map[string]any); transport["protocol"] != "uwsgi" {
						t.Errorf("%s speaks %v to AWX", name, transport["protocol"])
					}
				}
				for _, route := range []string{"encode", "file_server"} {
					if len(handlers(s.Routes, route)) < 2 {
						t.Errorf("%s: too few handlers %s", name, route)
					}
				}
			}
		})
	}
}

// The unit, the image and the pod provide the socket's directory, and do not touch uWSGI.
func TestAdminSocketHasADirectory(t *testing.T) {
	for file, want := range map[string][]string{
		"deploy/systemd/edgerelay.service": {
			"\nRuntimeDirectory=edgerelay\n", "\nRuntimeDirectoryMode=0700\n",
			"CADDY_ADMIN=unix//run/edgerelay/admin.sock|0600\n",
			"--address unix//run/edgerelay/admin.sock ",
		},
		"Dockerfile": {
			"--chown=65532:65532 /out/run/edgerelay /run/edgerelay\n",
			"CADDY_ADMIN=unix//run/edgerelay/admin.sock|0600\n",
		},
		"deploy/container/rootfs.sh":        {`chmod 0700 "$root/run/edgerelay"`},
		"deploy/packages/Caddyfile":         {"admin unix//run/edgerelay/admin.sock|0600"},
		"examples/awx/awx.yaml":             {"emptyDir: {}", "mountPath: /run/edgerelay\n"},
		"examples/awx/supervisord_web.conf": {"/var/lib/awx/venv/awx/bin/uwsgi /etc/tower/uwsgi.ini\n", "GOMEMLIMIT="},
		"README.md": {
			"admin unix//run/edgerelay/admin.sock|0600", "edgerelay_uwsgi",
			"auth awx uwsgi://127.0.0.1:8050",
		},
	} {
		text, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s has no %q", file, w)
			}
		}
	}
}

// Every configuration that trusts proxies, in examples, documentation or comments, does so strictly.
func TestProxiesAreTrustedStrictly(t *testing.T) {
	root := filepath.Join("..", "..")
	seen, others := 0, []string{".git", "bin", "node_modules", "internal", "caddymodule", "shared"}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && slices.Contains(others, e.Name()) {
			return filepath.SkipDir
		}
		if !strings.HasPrefix(e.Name(), "Caddyfile") && filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines := strings.Split(string(text), "\n")
		for i, line := range lines {
			if !strings.HasPrefix(strings.TrimLeft(line, "# \t"), "trusted_proxies ") {
				continue
			}
			seen++
			near := strings.Join(lines[i:min(i+3, len(lines))], "\n")
			if !strings.Contains(near, "trusted_proxies_strict") {
				t.Errorf("%s:%d: no trusted_proxies_strict beside it", path, i+1)
			}
		}
		return nil
	})
	if err != nil || seen < 3 {
		t.Errorf("%d places (%v)", seen, err)
	}
}
