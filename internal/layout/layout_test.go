// Package layout holds the packages of the module to who may import whom.
package layout_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/edgerelay/edgerelay"

type listed struct {
	ImportPath                         string
	Standard                           bool
	Imports, TestImports, XTestImports []string
}

// list asks the go command for packages and all that they depend on.
func list(t *testing.T, args ...string) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=ImportPath,Standard,Imports,TestImports,XTestImports"}, args...)...)
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	packages := map[string]listed{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
}

// below reports whether a package is path or beneath it.
func below(pkg string, paths ...string) bool {
	return slices.ContainsFunc(paths, func(path string) bool {
		path = strings.TrimSuffix(module+"/"+path, "/")
		return pkg == path || strings.HasPrefix(pkg, path+"/")
	})
}

func TestImports(t *testing.T) {
	packages := list(t, "./...")
	if len(packages) < 100 || packages[module+"/caddymodule"].ImportPath == "" {
		t.Fatalf("only %d packages", len(packages))
	}
	for _, p := range packages {
		if !below(p.ImportPath, "") {
			continue
		}
		for _, imported := range p.Imports {
			switch ours := below(imported, ""); {
			case packages[imported].Standard:
			case p.ImportPath == module+"/relay":
				t.Errorf("relay imports %s; the core uses the standard library alone", imported)
			case below(p.ImportPath, "relay/transport") && below(imported, "relay/transport/netpoll"):
				// Transports share the byte side of connections.
			case below(p.ImportPath, "relay/relaytest", "relay/internal/layertest"):
				// Test support of the relay's packages.
			case below(p.ImportPath, "relay") && ours && !strings.HasPrefix(p.ImportPath, imported+"/") &&
				!below(imported, "internal/pyjson", "relay/internal", "relay/hub"): // hub: until the seam has what these packages need of it
				t.Errorf("%s imports %s; of this module it may import the packages above it, relay/internal and internal/pyjson", p.ImportPath, imported)
			case below(p.ImportPath, "plugins") && ours && !below(imported, "plugins"):
				t.Errorf("%s imports %s; the plugin host knows nothing of the relay", p.ImportPath, imported)
			case below(p.ImportPath, "plugins") && strings.Contains(imported, "/caddy/"):
				t.Errorf("%s imports %s; only caddymodule knows Caddy", p.ImportPath, imported)
			case below(imported, "caddymodule") && !below(p.ImportPath, "caddymodule"):
				t.Errorf("%s imports %s; only packages below caddymodule may", p.ImportPath, imported)
			case strings.HasPrefix(imported, "github.com/caddyserver/caddy/") && !below(p.ImportPath, "caddymodule", "internal"):
				t.Errorf("%s imports %s; only caddymodule knows Caddy", p.ImportPath, imported)
			}
		}
	}
}

// What the core pulls in, however far away, is the standard library.
func TestCoreIsSmall(t *testing.T) {
	for _, p := range list(t, "./relay") {
		if !p.Standard && p.ImportPath != module+"/relay" {
			t.Errorf("relay depends on %s", p.ImportPath)
		}
	}
}
