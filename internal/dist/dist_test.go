package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

var made = time.Unix(1700000000, 0).UTC()

func TestArchive(t *testing.T) {
	files := []file{{"b/x", []byte("two"), 0o644}, {"a", []byte("one"), 0o755}}
	first, err := archive("f", files, made)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(files)
	if second, err := archive("f", files, made); err != nil || !bytes.Equal(first, second) {
		t.Errorf("the same files give other bytes (%v)", err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(unpacked); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(made) || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s: %v, of %d %q", h.Name, h.ModTime, h.Uid, h.Uname)
		}
		got = append(got, h.FileInfo().Mode().String()+" "+h.Name+" "+string(content))
	}
	if want := []string{"-rwxr-xr-x f/a one", "-rw-r--r-- f/b/x two"}; !slices.Equal(got, want) {
		t.Errorf("it holds %q, want %q", got, want)
	}
}

func TestSBOM(t *testing.T) {
	info := &debug.BuildInfo{
		GoVersion: "go1.26.8",
		Main:      debug.Module{Path: "example.com/app", Version: "v1.2.3"},
		Deps: []*debug.Module{
			{Path: "example.com/a/v2", Version: "v2.0.0+incompatible", Sum: "h1:x="},
			{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/new", Version: "v1.0.1"}},
		},
		Settings: []debug.BuildSetting{{Key: "GOARCH", Value: "arm64"}, {Key: "-ldflags", Value: "-s"}, {Key: "vcs.revision", Value: "abc"}},
	}
	sum := sha256.Sum256([]byte("program"))
	text, err := sbom(info, sum, made)
	if err != nil {
		t.Fatal(err)
	}
	var b bom
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, c := range b.Components {
		refs = append(refs, c.PURL)
	}
	if want := []string{"pkg:golang/std@1.26.8", "pkg:golang/example.com/a/v2@v2.0.0%2Bincompatible", "pkg:golang/example.com/new@v1.0.1"}; !slices.Equal(refs, want) {
		t.Errorf("components %q, want %q", refs, want)
	}
	if !slices.Equal(b.Dependencies[0].DependsOn, refs) || b.Dependencies[0].Ref != b.Metadata.Component.Ref {
		t.Errorf("dependencies %+v", b.Dependencies)
	}
	if b.Metadata.Timestamp != "2023-11-14T22:13:20Z" || len(b.SerialNumber) != len("urn:uuid:")+36 || b.SerialNumber[23] != '8' {
		t.Errorf("timestamp %s, serial number %s", b.Metadata.Timestamp, b.SerialNumber)
	}
	if got := b.Metadata.Component.Properties; len(got) != 2 || got[0] != (property{"go:GOARCH", "arm64"}) {
		t.Errorf("properties %v", got)
	}
	if again, err := sbom(info, sum, made); err != nil || !bytes.Equal(text, again) {
		t.Errorf("not the same twice (%v)", err)
	}
}

func TestVersion(t *testing.T) {
	for in, want := range map[string]string{"v1.2.3": "1.2.3", "(devel)": "devel", "": "devel", "v0.0.0-2026-abc+dirty": "0.0.0-2026-abc-dirty"} {
		if got := version(in); got != want {
			t.Errorf("version(%q) = %q, want %q", in, got, want)
		}
	}
}

// What an archive is to hold is there, and sha256sum accepts the checksums.
func TestContents(t *testing.T) {
	for _, name := range contents {
		if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(name))); err != nil {
			t.Error(err)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"b", "a"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sums, err := checksums(dir, []string{"b", "a"})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sha256sum", "--check", "--strict")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(sums)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), "OK") != 2 {
		t.Errorf("sha256sum: %v\n%s\n%s", err, out, sums)
	}
}
