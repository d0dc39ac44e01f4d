package pluginhost

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/oci"
	"github.com/edgerelay/edgerelay/internal/testkit/registry"
	"github.com/edgerelay/edgerelay/plugins/artifact"
)

func TestModulesFromARegistry(t *testing.T) {
	s := newSite(t)
	g := registry.New()
	tag, err := oci.ParseReference("oci://" + g.Start(t) + "/plugins/p:1")
	if err != nil {
		t.Fatal(err)
	}
	push := func(wasm []byte, signatures ...artifact.Signature) string {
		t.Helper()
		pushed, err := new(oci.Registry).Push(context.Background(), tag, wasm, signatures)
		if err != nil {
			t.Fatal(err)
		}
		return pushed.String()
	}
	one, two := module(t, "one1"), module(t, "two2")
	first, second := push(one), push(two)
	for file, want := range map[string]string{
		tag.String(): "has no digest", "oci://x": "invalid reference", tag.String() + "@sha256:0": "invalid digest",
	} {
		s.plugin.File = file
		if err := s.tryStart(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
	s.plugin.File = first
	s.start()
	s.runs(one, FromFile, 0)
	if got := s.status(); got.File != first || got.Ref != first {
		t.Errorf("file %q, ref %q", got.File, got.Ref)
	}
	// Another start needs no registry.
	down := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	g.Before = down
	s.start()
	s.runs(one, FromFile, 0)
	if err := s.reload(func(p *Plugin) { p.File = second }); err == nil || !strings.Contains(err.Error(), "pull oci://") {
		t.Errorf("a reload without the registry: %v", err)
	}
	g.Before = nil
	if err := s.reload(func(*Plugin) {}); err != nil {
		t.Fatal(err)
	}
	s.runs(two, FromFile, 0)
	// A changed file is not the module that the digest names.
	file := s.running[0].path
	if err := os.WriteFile(file, one, 0o600); err != nil {
		t.Fatal(err)
	}
	s.follows()
	s.runs(two, FromFile, 0)
	g.Before = down
	if err := s.tryStart(); err == nil {
		t.Error("a start with a changed file and without the registry succeeds")
	}
	g.Before = nil
	s.start()
	s.runs(two, FromFile, 0)
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 4 {
		t.Errorf("left are %v, %v", left, err)
	}
	// A deployment takes over, as over any file.
	s.deploy(one, Change{})
	s.runs(one, FromDeploy, 2)
}

func TestModulesFromARegistryNeedSignatures(t *testing.T) {
	s := newSite(t)
	g := registry.New()
	tag, err := oci.ParseReference("oci://" + g.Start(t) + "/plugins/p:1")
	if err != nil {
		t.Fatal(err)
	}
	private, key := newKey(t, "ops")
	one := module(t, "one1")
	pushed, err := new(oci.Registry).Push(context.Background(), tag, one, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.keys = artifact.Keys{key}
	s.plugin.File = pushed.String()
	if err := s.tryStart(); !errors.Is(err, artifact.ErrSignature) {
		t.Errorf("an unsigned module: %v", err)
	}
	signature, err := artifact.Sign(one, private, "p")
	if err != nil {
		t.Fatal(err)
	}
	// The module is there already, and its signature comes later.
	if _, err := new(oci.Registry).Push(context.Background(), tag, one, []artifact.Signature{*signature}); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.runs(one, FromFile, 0)
	if got := s.status().SignedBy; got != "ops" {
		t.Errorf("signed by %q", got)
	}
}
