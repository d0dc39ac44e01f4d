package pluginhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/edgerelay/edgerelay/plugins"
)

func TestModuleStore(t *testing.T) {
	ctx := context.Background()
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	s := Store{Storage: storage}
	if d, err := s.lastDeployment(ctx, "a"); d != nil || err != nil {
		t.Fatalf("an empty storage: %v, %v", d, err)
	}
	var previous []byte
	for n := range 4 {
		wasm := fmt.Append(nil, "module ", n)
		d, err := s.deploy(ctx, "a", wasm, previous)
		if err != nil {
			t.Fatal(err)
		}
		last, err := s.lastDeployment(ctx, "a")
		if err != nil || last.Hash != plugins.Hash(wasm) || !last.At.Equal(d.At) || previous != nil && last.Previous != plugins.Hash(previous) {
			t.Errorf("deployment %d: %+v, %v", n, last, err)
		}
		if got, err := s.loadModule(ctx, "a", last.Hash); err != nil || !bytes.Equal(got, wasm) {
			t.Errorf("module %d: %q, %v", n, got, err)
		}
		previous = wasm
	}
	if keys, err := storage.List(ctx, "edgerelay/plugins/a", false); err != nil || len(keys) != 3 {
		t.Errorf("kept are %q, %v; want the record and two modules", keys, err)
	}
	if _, err := s.loadModule(ctx, "a", plugins.Hash([]byte("module 0"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an old module: %v", err)
	}
	for key, damage := range map[string]string{moduleKey("a", plugins.Hash(previous)): "damaged", storeKey("a", "deployment.json"): "{"} {
		if err := storage.Store(ctx, key, []byte(damage)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.loadModule(ctx, "a", plugins.Hash(previous)); err == nil || !strings.Contains(err.Error(), "deploy again") {
		t.Errorf("a damaged module: %v", err)
	}
	if _, err := s.lastDeployment(ctx, "a"); err == nil || !strings.Contains(err.Error(), "deploy again") {
		t.Errorf("a damaged record: %v", err)
	}
}

// The newer of file and deployment runs.
func TestNewerModuleRuns(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := Store{Storage: &certmagic.FileStorage{Path: filepath.Join(dir, "storage")}}
	p := &runningPlugin{Plugin: &Plugin{Name: "a", path: filepath.Join(dir, "a.wasm")}}
	if err := p.load(ctx, s); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("neither file nor deployment: %v", err)
	}
	if _, err := s.deploy(ctx, "a", []byte("deployed"), []byte("before")); err != nil {
		t.Fatal(err)
	}
	runs := func(want, from string) {
		t.Helper()
		p.module = moduleVersion{}
		if err := p.load(ctx, s); err != nil || string(p.module.wasm) != want || p.module.from != from {
			t.Errorf("runs %q from %s, %v; want %q", p.module.wasm, p.module.from, err, want)
		}
	}
	runs("deployed", "deploy")
	if string(p.previous) != "before" {
		t.Errorf("a rollback would run %q", p.previous)
	}
	if err := os.WriteFile(p.Plugin.path, []byte("file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for age, want := range map[time.Duration]string{time.Hour: "deployed", -time.Hour: "file"} {
		at := time.Now().Add(-age)
		if err := os.Chtimes(p.Plugin.path, at, at); err != nil {
			t.Fatal(err)
		}
		runs(want, map[string]string{"deployed": "deploy", "file": "file"}[want])
	}
}
