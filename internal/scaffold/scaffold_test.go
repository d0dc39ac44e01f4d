package scaffold

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/guests"
)

// TestGoProject: a new Go project passes its own tests and its golden samples on the real host, without downloads.
// Package guests tests the projects of the other languages, because its tests need their toolchains anyway.
func TestGoProject(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "my-plugin")
			if err := New(kind, "go", dir, ""); err != nil {
				t.Fatal(err)
			}
			test := exec.Command("go", "test", "./...")
			test.Dir = dir
			test.Env = append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off")
			guests.Run(t, test)
			guests.CheckProject(t, dir)
		})
	}
}

// TestGoProjectUpgrades: a project takes the published module instead of its copy, upgrades it, and vendors it, with
// the commands of its README.
func TestGoProjectUpgrades(t *testing.T) {
	proxy, dir := t.TempDir(), filepath.Join(t.TempDir(), "my-plugin")
	publish(t, proxy, "v"+edgerelayVersion(t))
	if err := New(Filter, "go", dir, ""); err != nil {
		t.Fatal(err)
	}
	run := func(command string) string {
		t.Helper()
		cmd := exec.Command("sh", "-ec", command)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-modcacherw", "GOPROXY=file://"+proxy, "GOSUMDB=off", "GOWORK=off",
			"GOMODCACHE="+filepath.Join(proxy, "cache"))
		return guests.Run(t, cmd)
	}
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for line := range strings.Lines(string(readme)) {
		if strings.HasPrefix(line, "    go mod edit") || strings.HasPrefix(line, "    go get") {
			commands = append(commands, strings.TrimSpace(line))
		}
	}
	if len(commands) != 2 {
		t.Fatalf("the README has the commands %q", commands)
	}
	run(commands[0])
	run("go vet . && go test . && sh build.sh")
	const newer = "v0.99.0"
	publish(t, proxy, newer)
	run(commands[1])
	if list := run("go list -m " + sdkModule); !strings.Contains(list, newer) {
		t.Errorf("after the upgrade: %s", list)
	}
	run("go mod vendor && GOPROXY=off go test .")
	guests.CheckProject(t, dir)
}

const sdkModule = "github.com/edgerelay/edgerelay/sdk/go"

// edgerelayVersion returns the version of the SDK.
func edgerelayVersion(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(guests.Root, "sdk", "go", "version.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(text), "const Version = \"")
	version, _, _ = strings.Cut(version, "\"")
	return version
}

// TestRustProjectVersion: a new project in Rust asks for the SDK's version of the crate.
func TestRustProjectVersion(t *testing.T) {
	version := edgerelayVersion(t)
	want := `edgerelay = { version = "` + version[:strings.LastIndex(version, ".")] + `"`
	text, err := os.ReadFile(filepath.Join(guests.Root, "sdk", "templates", "rust", "Cargo.toml.tmpl"))
	if err != nil || !strings.Contains(string(text), want) {
		t.Errorf("Cargo.toml lacks %q (%v)", want, err)
	}
}

// publish puts the Go SDK into a module proxy, as a tag such as sdk/go/v0.2.0 does.
func publish(t *testing.T, proxy, version string) {
	t.Helper()
	root := filepath.Join(guests.Root, "sdk", "go")
	dir := filepath.Join(proxy, filepath.FromSlash(sdkModule), "@v")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		w, err := z.Create(sdkModule + "@" + version + "/" + name)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.OpenFile(filepath.Join(dir, "list"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(list, version)
	if err := list.Close(); err != nil {
		t.Fatal(err)
	}
	for suffix, text := range map[string][]byte{
		".info": []byte(`{"Version":"` + version + `"}`), ".mod": mod, ".zip": archive.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(dir, version+suffix), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestProjectsAreComplete: every placeholder is replaced, and the README and the Caddyfile name the plugin.
func TestProjectsAreComplete(t *testing.T) {
	for _, kind := range Kinds() {
		for _, lang := range Languages() {
			t.Run(kind+" "+lang, func(t *testing.T) { holdComplete(t, kind, lang) })
		}
	}
}

func holdComplete(t *testing.T, kind, lang string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "x")
	if err := New(kind, lang, dir, "my-plugin"); err != nil {
		t.Fatal(err)
	}
	names := []string{"README.md", "Caddyfile", "build.sh"}
	if kind == Function {
		names = append(names, "samples.ndjson", "page/index.html")
	} else {
		names = append(names, "events.ndjson")
	}
	for _, file := range names {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Error(err)
		}
		if strings.HasSuffix(file, "file") && !bytes.Contains(text, []byte("plugin my-plugin {$DEV_PLUGIN:./plugin.wasm}")) {
			t.Errorf("%s: the Caddyfile does not name the plugin", lang)
		}
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("{{name}}")) || strings.HasSuffix(path, ".tmpl") {
			t.Errorf("%s is not filled in", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ lang, dir, name, want string }{
		{"cobol", filepath.Join(t.TempDir(), "p"), "", "use go, rust, assemblyscript, c"},
		{"go", filepath.Join(t.TempDir(), "9 lives"), "", "beginning with a letter"},
		{"go", filepath.Join(t.TempDir(), "p"), "a/b", "beginning with a letter"},
		// The invalid name keeps a version that accepts the empty directory from writing to the root of the file
		// system.
		{"go", "", "1", "the name of the directory is empty"},
		{"go", full, "p", "is not empty"},
		{"go", filepath.Join(full, "mine"), "p", "not a directory"},
	} {
		if err := New(Filter, c.lang, c.dir, c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v", c.lang, c.dir, err)
		}
		if c.dir != full && filepath.Dir(c.dir) != full {
			if _, err := os.Stat(c.dir); err == nil {
				t.Errorf("%s was created anyway", c.dir)
			}
		}
	}
}

// TestGoSDKCopy: the Go SDK in the template equals the SDK.
func TestGoSDKCopy(t *testing.T) {
	root := filepath.Join(guests.Root, "sdk")
	want, got := files(t, filepath.Join(root, "go")), files(t, filepath.Join(root, "templates", "go", "edgerelay"))
	if len(want) < 10 {
		t.Fatalf("the SDK has the files %v", want)
	}
	for name, text := range want {
		if !bytes.Equal(got[name+".tmpl"], text) {
			t.Errorf("the copy of %s is not the same: scripts/copy-go-sdk.sh renews it", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d copies of %d files: scripts/copy-go-sdk.sh renews them", len(got), len(want))
	}
}

// files returns the files below a folder, without tests.
func files(t *testing.T, root string) map[string][]byte {
	t.Helper()
	texts := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "testdata":
			return filepath.SkipDir
		case d.IsDir() || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		texts[strings.TrimPrefix(path, root+string(filepath.Separator))] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}
