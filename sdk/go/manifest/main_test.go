package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const header = "\x00asm\x01\x00\x00\x00"

func TestEmbed(t *testing.T) {
	dir := t.TempDir()
	module, manifest := filepath.Join(dir, "plugin.wasm"), filepath.Join(dir, "manifest.json")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const first, other, last = "\x01\x01\x00", "\x00\x04\x03abc", "\x0b\x01\x00"
	write(module, header+first+other+last)
	for _, text := range []string{`{"name":"a"}`, `{"name":"` + strings.Repeat("b", 200) + `"}`} {
		write(manifest, text)
		if err := run(module, manifest); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(module)
		if err != nil {
			t.Fatal(err)
		}
		kept, ok := strings.CutPrefix(string(got), header+first+other+last)
		if !ok || strings.Count(kept, section) != 1 || !strings.HasSuffix(kept, "\x12"+section+text) {
			t.Errorf("%q", got)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ wasm, manifest, want string }{
		{header, `[]`, "not a JSON object"},
		{header, `{"a":"` + strings.Repeat("x", maxManifest) + `"}`, "more than 65536"},
		{"", `{}`, "not a WebAssembly module"},
		{header + "\x01\x05abc", `{}`, "inside of a section"},
		{header + "\x01", `{}`, "inside of a section"},
	} {
		if _, err := embed([]byte(c.wasm), []byte(c.manifest)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.wasm, err, c.want)
		}
	}
}

func FuzzEmbed(f *testing.F) {
	f.Add([]byte(header + "\x00\x04\x03abc\x01\x01\x00"))
	f.Fuzz(func(t *testing.T, wasm []byte) {
		once, err := embed(wasm, []byte(`{}`))
		if err != nil {
			return
		}
		if twice, err := embed(once, []byte(`{}`)); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%q, then %q (%v)", once, twice, err)
		}
	})
}
