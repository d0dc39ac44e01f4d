package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// configDirs returns the configuration's packages, relative to this directory.
func configDirs() (dirs []string) {
	for _, p := range configPackages {
		dirs = append(dirs, filepath.Join(root, p))
	}
	return dirs
}

// The committed reference equals the one generated from the comments.
func TestReferenceIsFresh(t *testing.T) {
	fresh, err := reference(configDirs()...)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile(filepath.Join(root, referenceFile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(fresh, committed) {
		t.Errorf("%s is out of date with the comments in %s; run `make reference` and commit the page",
			referenceFile, configPackages)
	}
}

// The reference has every configurable module, with the module's Caddyfile.
func TestReferenceIsWhole(t *testing.T) {
	c, err := readConfig(configDirs()...)
	if err != nil {
		t.Fatal(err)
	}
	text, err := reference(configDirs()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.modules {
		if strings.HasPrefix(m.id, "admin.") {
			continue // nothing to configure
		}
		if len(m.grammar) == 0 {
			t.Errorf("no comment shows the Caddyfile of %s; write \"reads\" and the block above the parsing function",
				m.id)
		}
		for _, f := range m.fields {
			if !bytes.Contains(text, []byte("`"+f.key+"`")) {
				t.Errorf("the reference lacks %s of %s", f.key, m.id)
			}
		}
	}
	if n := len(c.modules); n < 9 {
		t.Errorf("only %d modules found", n)
	}
}

func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "x.go", `package x

// Thing does "much" with {env.THINGS} or * of [Other].
type Thing struct {
	// Name is its name, as at http://a.example/x. Default: a|b.
	Name string `+"`json:\"name,omitempty\"`"+`
	// MaxSize bounds Name.
	MaxSize *int `+"`json:\"max_size\" caddyfile:\"<size>\"`"+`
	// Fast speeds it up.
	Fast bool `+"`json:\"fast\" caddyfile:\"-\"`"+`
	// Parts are within.
	Parts []*Part `+"`json:\"parts\" caddyfile:\"part={ … }\"`"+`
	hidden int
}

// Part is a part.
type Part struct {
	// Left is on the left. Default: off. It may change.
	Left bool `+"`json:\"left\" caddyfile:\"on|off\"`"+` // not this
}

func (Thing) CaddyModule() caddy.ModuleInfo { return caddy.ModuleInfo{ID: "http.handlers.thing"} }

// parse reads `+"`thing <name> { … }`"+`.
func parse() { x := &Thing{}; _ = x }
`)
	text, err := reference(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"### thing\n\n```caddyfile\nthing <name> {\n\tmax_size <size>\n\tfast\n\tpart     { … }\n}\n```\n\n" +
			"Does `much` with `{env.THINGS}` or \\* of Other.\n",
		"| `name` | string | a\\|b | Its name, as at `http://a.example/x`. |\n",
		"| `max_size` | size |  | Bounds `name`. |\n",
		"| `parts`, in a Caddyfile `part` | list of [object](#thing-part) |  | Within. |\n",
		"#### thing: part\n\n```caddyfile\npart {\n\tleft on|off\n}\n```\n\nA part.\n\n" +
			"| setting | type | default | meaning |\n|---|---|---|---|\n" +
			"| `left` | boolean | off | On the left. It may change. |\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the reference lacks\n%s\nit is\n%s", want, text)
		}
	}
	write(t, dir, "x.go", "package x\ntype T struct { A int `json:\"a\"` }\n"+
		"func (T) CaddyModule() caddy.ModuleInfo { return caddy.ModuleInfo{ID: \"http.handlers.t\"} }\n")
	if _, err := reference(dir); err == nil || !strings.Contains(err.Error(), "T.A has no comment") {
		t.Errorf("a setting without comment: %v", err)
	}
}
