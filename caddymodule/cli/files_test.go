package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each file that a command cannot read is named in one line, with the operation and a remedy.
func TestUnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	module, none := filepath.Join(dir, "p.wasm"), filepath.Join(dir, "none")
	if err := os.WriteFile(module, guestModule(t, "pass", ""), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, what string
		args       []string
	}{
		{"deploy", "module", []string{"plugin", "deploy", "p", none}},
		{"settings", "settings", []string{"plugin", "deploy", "p", module, "--settings", none}},
		{"inspect", "module", []string{"plugin", "inspect", none}},
		{"test", "module", []string{"plugin", "test", none, "-"}},
		{"samples", "samples", []string{"plugin", "test", module, none}},
		{"config", "configuration", []string{"plugin", "test", module, "-", "--config", "@" + none}},
		{"replay", "recording", []string{"plugin", "replay", module, none}},
		{"against", "module", []string{"plugin", "replay", module, "-", "--against", none}},
		{"sign", "module", []string{"plugin", "sign", none, "--key", none}},
		{"key", "private key", []string{"plugin", "sign", module, "--key", none}},
		{"public key", "public key", []string{"plugin", "verify", "--key", none + ".pub", module}},
		{"push", "module", []string{"plugin", "push", none, "oci://localhost:1/p"}},
		{"embed", "module", []string{"plugin", "embed-manifest", none, none}},
		{"manifest", "manifest", []string{"plugin", "embed-manifest", module, none}},
		{"doctor", "configuration", []string{"doctor", "--config", none}},
		{"bundle", "configuration", []string{"support-bundle", "--config", none, "--output", filepath.Join(dir, "b")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := execute(t, c.args...)
			out.wantError(t, exitFailed, "reading the "+c.what+` "`+none, `": no such file or directory; check the path`)
		})
	}
	execute(t, "bench", "--ca", none).wantError(t, exitUsage, `--ca: reading the certificates "`+none+`": `)
	execute(t, "plugin", "inspect", dir).wantError(t, exitFailed, "is a directory; name a file, not a directory")
}

// A URL is no file: the command says what it takes instead.
func TestModulesAreNotDownloaded(t *testing.T) {
	const from = "http://localhost:1/p.wasm"
	for _, args := range [][]string{
		{"plugin", "deploy", "p", from}, {"plugin", "inspect", from}, {"plugin", "verify", "--key", strings.Repeat("A", 43) + "=", from},
	} {
		execute(t, args...).wantError(t, exitUsage, `reading the module "`+from+`"`, "download the module, or", "oci://")
	}
	for _, args := range [][]string{
		{"plugin", "test", from, "-"},
		{"plugin", "sign", "--key", "k", from},
		{"plugin", "push", from, "oci://localhost:1/p"},
		{"plugin", "test", "oci://localhost:1/p", "-"},
	} {
		execute(t, args...).wantError(t, exitUsage, "reading the module", "download the module first")
	}
}

// Each file that a command cannot write is named in one line, with the operation and a remedy, and stays as it is.
func TestUnwritableFiles(t *testing.T) {
	dir := t.TempDir()
	key, other := filepath.Join(dir, "a.key"), filepath.Join(dir, "b.pub")
	for _, name := range []string{key, other} {
		if err := os.WriteFile(name, []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := execute(t, "plugin", "keygen", filepath.Join(dir, "a"))
	out.wantError(t, exitFailed, `writing the private key "`+key+`": file exists; choose another name`)
	out = execute(t, "plugin", "keygen", filepath.Join(dir, "b"))
	out.wantError(t, exitFailed, `writing the public key "`+other+`": file exists; choose another name`)
	missing := filepath.Join(dir, "none", "c")
	out = execute(t, "plugin", "keygen", missing)
	out.wantError(t, exitFailed, `writing the private key "`+missing+`.key": no such file or directory; create the directory`)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || strings.Join(files, " ") != key+" "+other {
		t.Errorf("files %q (%v): a key without its other half is left", files, err)
	}
	for _, name := range []string{key, other} {
		if text, err := os.ReadFile(name); err != nil || string(text) != "before" {
			t.Errorf("%s has %q (%v)", name, text, err)
		}
	}
}

// The value of an unset variable of a shell names no file. The invalid name of the project ends a command that accepts
// the empty directory, before it writes anything.
func TestEmptyNamesOfFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	execute(t, "plugin", "new", "", "--name", "1").wantError(t, exitUsage, "empty")
	for _, args := range [][]string{
		{"plugin", "embed-manifest", "none.wasm", "none.json"}, {"plugin", "record", "p"}, {"support-bundle"},
	} {
		execute(t, append(args, "--output", "")...).wantError(t, exitUsage, "--output: empty value; name a file")
	}
	execute(t, "plugin", "keygen", "").wantError(t, exitUsage)
	execute(t, "plugin", "keygen", "keys/").wantError(t, exitUsage, `invalid name "keys/" of a key`)
	if files, err := os.ReadDir("."); err != nil || len(files) > 0 {
		t.Errorf("files %v (%v), want none", files, err)
	}
}
