package wasmfile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("..", "..", "testdata", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func TestRead(t *testing.T) {
	m, err := Read(fixture(t, "actor"))
	if err != nil {
		t.Fatal(err)
	}
	var emits, hooks, memories int
	for _, i := range m.Imports {
		if i == (Import{"ev1", "emit", Function}) {
			emits++
		}
	}
	for _, e := range m.Exports {
		switch e {
		case Export{"ev_on_event", Function}:
			hooks++
		case Export{"memory", Memory}:
			memories++
		}
	}
	if emits != 1 || hooks != 1 || memories != 1 {
		t.Errorf("got %+v", m)
	}
	for _, bad := range [][]byte{nil, []byte("text"), []byte("\x00asm\x0d\x00\x01\x00"), append(bytes.Clone(header), 2, 9, 1)} {
		if _, err := Read(bad); err == nil {
			t.Errorf("%q is read without an error", bad)
		}
	}
}

func TestSetCustom(t *testing.T) {
	wasm := fixture(t, "pass")
	one, err := SetCustom(wasm, "a", []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := SetCustom(one, "b", bytes.Repeat([]byte("x"), 300))
	if err != nil {
		t.Fatal(err)
	}
	two, err := SetCustom(other, "a", []byte("second"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Read(two)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, s := range m.Custom {
		if found[s.Name] != "" {
			t.Errorf("section %s is there twice", s.Name)
		}
		found[s.Name] = string(s.Data)
	}
	if found["a"] != "second" || len(found["b"]) != 300 || !bytes.HasPrefix(one, wasm) {
		t.Errorf("got %q", found)
	}
}

// FuzzRead feeds modules from outside. SetCustom adds a section that Read returns, whatever the module.
func FuzzRead(f *testing.F) {
	f.Add(fixture(f, "actor"))
	f.Add(append(bytes.Clone(header), 0, 3, 1, 'a', 'b'))
	f.Fuzz(func(t *testing.T, wasm []byte) {
		m, err := Read(wasm)
		if err != nil {
			return
		}
		out, err := SetCustom(wasm, "n", []byte("data"))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read(out)
		if err != nil {
			t.Fatal(err)
		}
		last := again.Custom[len(again.Custom)-1]
		if last.Name != "n" || string(last.Data) != "data" || len(again.Exports) != len(m.Exports) {
			t.Fatalf("got %q", out)
		}
	})
}
