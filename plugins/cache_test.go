package plugins

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCache(t *testing.T) {
	needMachineCode(t)
	dir := filepath.Join(t.TempDir(), "cache")
	pipeline(t, Options{CacheDir: dir}, actor(t))
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cache's mode is %v, want 0700 (%v)", info.Mode(), err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(files) == 0 {
		t.Error("nothing was cached")
	}
	pipeline(t, Options{CacheDir: dir}, actor(t))
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{CacheDir: dir}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a cache that other users may write to: %v", err)
	}
}

// TestTwinsFromTheCache loads several plugins with the same bytes at once from the cache of an earlier run.
func TestTwinsFromTheCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	var specs []Spec
	for i := range 8 {
		s := actor(t)
		s.Name = fmt.Sprint("actor", i)
		specs = append(specs, s)
	}
	pipeline(t, Options{CacheDir: dir}, specs[0])
	for range 20 {
		pipeline(t, Options{CacheDir: dir}, specs...)
	}
}
