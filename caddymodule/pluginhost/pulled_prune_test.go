package pluginhost

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/oci"
	"github.com/edgerelay/edgerelay/internal/testkit/registry"
)

// The directory of pulled modules does not grow for ever, and keeps the running module and the one before.
func TestPulledModulesArePruned(t *testing.T) {
	s := newSite(t)
	tag, err := oci.ParseReference("oci://" + registry.New().Start(t) + "/plugins/p:1")
	if err != nil {
		t.Fatal(err)
	}
	push := func(word string) string {
		t.Helper()
		pushed, err := new(oci.Registry).Push(context.Background(), tag, module(t, word), nil)
		if err != nil {
			t.Fatal(err)
		}
		return pushed.String()
	}
	s.plugin.File = push("one1")
	s.start()
	running, _ := s.snapshot()
	first := running[0].module.plugin.path
	dir := filepath.Dir(first)
	old := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%064d.wasm", i)) }
	for i := range 2 * maxPulledKept { // of earlier configurations; the first is the one that was used last
		for _, suffix := range []string{"", manifestSuffix, SignatureSuffix} {
			if err := os.WriteFile(old(i)+suffix, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		at := time.Now().Add(-time.Duration(i+1) * time.Hour)
		if err := os.Chtimes(old(i), at, at); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-1000 * time.Hour)
	if err := os.Chtimes(first, long, long); err != nil {
		t.Fatal(err)
	}
	second := push("two2")
	if err := s.reload(func(p *Plugin) { p.File = second }); err != nil {
		t.Fatal(err)
	}
	s.runs(module(t, "two2"), FromFile, 0)
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	running, _ = s.snapshot()
	for what, path := range map[string]string{"running": running[0].module.plugin.path, "previous": first} {
		if !exists(path) || !exists(path+manifestSuffix) {
			t.Errorf("the %s module is gone", what)
		}
	}
	for i := range 2 * maxPulledKept {
		for _, suffix := range []string{"", manifestSuffix, SignatureSuffix} {
			if got, want := exists(old(i)+suffix), i < maxPulledKept; got != want {
				t.Errorf("module %d%s: kept %v, want %v", i, suffix, got, want)
			}
		}
	}
}
