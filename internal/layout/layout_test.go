// Package layout tests which packages of the module may import which others.
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

// layer is a part of the module and the packages that it may import besides the standard library.
type layer struct {
	path string
	// ours are packages of this module, and all below them; "" is the whole module.
	ours []string
	// theirs are prefixes of other modules' packages; "" is any.
	theirs []string
}

// layers are the rules of the layout. The first that covers a package is its rule; a package may also import those
// below itself and those of its own part.
var layers = []layer{
	{"internal/testkit", []string{"internal/testkit"}, []string{"github.com/coder/websocket", "golang.org/x/net"}}, // for the tests of every package
	{"relay/relaytest", []string{"relay", "internal/testkit"}, nil},                                                // for tests
	{"relay/internal/layertest", []string{"relay", "internal"}, []string{""}},                                      // for tests
	{"relay/internal", []string{"relay", "internal/pyjson"}, []string{""}},
	{
		"relay/transport",
		[]string{"relay/internal", "relay/transport", "internal/pyjson", "internal/tcptuning"},
		[]string{"golang.org/x/"},
	},
	{"relay/hub/deflate", []string{"relay/internal/glob"}, []string{"github.com/klauspost/compress/"}},
	{"relay/hub", []string{"relay/hub"}, nil},
	{"relay/history", []string{"relay/internal", "relay/history"}, []string{"github.com/redis/"}},
	{"relay/layer", []string{"relay/internal", "relay/history"}, []string{"github.com/redis/", "github.com/vmihailenco/"}},
	{"relay/protocol", []string{"relay/internal", "relay/protocol", "internal/pyjson"}, nil},
	{"relay/authz", []string{"relay/internal", "relay/authz", "internal/pyjson"}, []string{"github.com/go-jose/"}},
	{"relay/state/statetest", []string{"relay", "internal"}, []string{""}}, // for tests
	{"relay/state", []string{"relay/internal", "relay/state"}, nil},
	{"relay/presence", []string{"relay/internal", "relay/presence"}, nil},
	{
		"relay/backplane",
		[]string{"relay/backplane", "relay/internal", "internal/pyjson", "internal/tcptuning"},
		[]string{""},
	},
	{"relay", nil, nil},
	{"plugins", []string{"plugins"}, []string{"github.com/tetratelabs/wazero"}},
	{"sdk", []string{"sdk"}, nil},
	{"caddymodule", []string{""}, []string{""}},
	{"internal", []string{""}, []string{""}},
}

// testSupport are the packages that only tests import.
var testSupport = []string{
	"internal/testkit", "internal/e2e", "internal/mesh", "relay/relaytest", "relay/internal/layertest",
	"relay/state/statetest",
}

// allows reports whether a package of the layer may import another one.
func (l layer) allows(imported string) bool {
	if !below(imported, "") {
		return slices.ContainsFunc(l.theirs, func(prefix string) bool { return strings.HasPrefix(imported, prefix) })
	}
	return below(imported, l.ours...) || strings.HasPrefix(l.path, "relay/") && imported == module+"/relay"
}

func TestImports(t *testing.T) {
	packages := list(t, "./...")
	if len(packages) < 100 || packages[module+"/caddymodule"].ImportPath == "" {
		t.Fatalf("only %d packages", len(packages))
	}
	for _, p := range packages {
		at := slices.IndexFunc(layers, func(l layer) bool { return below(p.ImportPath, l.path) })
		if !below(p.ImportPath, "") || at < 0 {
			continue
		}
		for _, imported := range p.Imports {
			switch {
			case packages[imported].Standard:
			case !layers[at].allows(imported):
				t.Errorf("%s imports %s; %s may import the standard library, of this module %q, and of others %q",
					p.ImportPath, imported, layers[at].path, layers[at].ours, layers[at].theirs)
			case below(imported, "internal/testkit", "internal/e2e") && !below(p.ImportPath, testSupport...):
				t.Errorf("%s imports %s; only tests may", p.ImportPath, imported)
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
