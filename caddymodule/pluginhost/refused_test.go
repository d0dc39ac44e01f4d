package pluginhost

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// A file that cannot run does not replace a deployment that does, is not compiled again and again, and a start without
// a deployment fails.
func TestRefusedFile(t *testing.T) {
	s := newSite(t)
	one, two := module(t, "one1"), module(t, "two2")
	bad := withManifest(t, module(t, "bad1"), `{"grants": ["kv"]}`)
	s.write(one)
	s.start()
	s.write(bad)
	s.follows()
	s.runs(one, FromFile, 0)
	if s.status().Refused == "" {
		t.Error("nothing tells that the file was refused")
	}
	if err := s.reload(func(*Plugin) {}); err == nil {
		t.Error("a reload with a bad file succeeds")
	}
	if err := s.tryStart(); err == nil {
		t.Error("a start with a bad file and no deployment succeeds")
	}
	s.write(one)
	s.start()
	s.deploy(two, Change{})
	s.write(bad)
	s.follows()
	s.runs(two, FromDeploy, 2)
	for range 2 {
		s.start()
		s.runs(two, FromDeploy, 2)
		if m := s.memories.load(s.running[0].Plugin, Store{s.storage}); len(m.Refusals) == 0 {
			t.Error("the node has forgotten what it refused")
		}
		if !strings.Contains(s.status().Refused, "add 'grant kv'") {
			t.Errorf("refused: %q", s.status().Refused)
		}
		if err := s.reload(func(*Plugin) {}); err != nil {
			t.Fatal(err)
		}
		s.runs(two, FromDeploy, 2)
	}
	s.deploy(one, Change{Expect: []string{plugins.Hash(two)}})
	s.write(two)
	s.follows()
	s.runs(two, FromFile, 0)
}

// A deployment that this node refuses leaves what ran before, also after a restart.
func TestRefusedDeployment(t *testing.T) {
	s := newSite(t)
	one, two := module(t, "one1"), module(t, "two2")
	bad := withManifest(t, module(t, "bad1"), `{"grants": ["kv"]}`)
	s.write(one)
	s.start()
	s.deploy(two, Change{})
	if _, err := (Store{s.storage}).update(context.Background(), "p", false, func(r *record) ([][]byte, error) {
		r.add(&entry{ID: newID(), Hash: plugins.Hash(bad), Origin: OriginDeploy, At: time.Now()})
		return [][]byte{bad}, nil
	}); err != nil {
		t.Fatal(err)
	}
	s.follows()
	s.runs(two, FromDeploy, 2)
	s.start()
	s.runs(two, FromDeploy, 2)
	if !strings.Contains(s.status().Refused, "add 'grant kv'") {
		t.Errorf("refused: %q", s.status().Refused)
	}
	if err := s.reload(func(p *Plugin) { p.Grants = []string{"kv"} }); err != nil {
		t.Fatal(err)
	}
	s.runs(bad, FromDeploy, 3)
	if s.status().Refused != "" {
		t.Errorf("refused: %q", s.status().Refused)
	}
}

// A node without a file keeps the module of a deployment that was taken back, and says why.
func TestUndeploymentWithoutAFile(t *testing.T) {
	s := newSite(t)
	one, two := module(t, "one1"), module(t, "two2")
	s.write(one)
	s.start()
	s.deploy(two, Change{})
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	if err := s.Undeploy(context.Background(), "p", Change{}); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("undeployed here: %v", err)
	}
	if _, err := (Store{s.storage}).update(context.Background(), "p", false, func(r *record) ([][]byte, error) {
		r.add(&entry{ID: newID(), Hash: plugins.Hash(one), Undeployed: true, Origin: OriginUndeploy, At: time.Now()})
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		s.runs(two, FromDeploy, 2)
		if !strings.Contains(s.status().Refused, "no such file") {
			t.Errorf("refused: %q", s.status().Refused)
		}
	}
	s.start()
	check()
	s.follows()
	check()
	s.write(one)
	s.follows()
	s.runs(one, FromFile, 0)
}

// A running node keeps a module that only the storage has lost, and an undeployment ends that.
func TestLostStorage(t *testing.T) {
	s := newSite(t)
	one, two := module(t, "one1"), module(t, "two2")
	s.write(one)
	s.start()
	s.deploy(two, Change{})
	if err := os.RemoveAll(filepath.Join(s.dir, "storage")); err != nil {
		t.Fatal(err)
	}
	s.follows()
	s.runs(two, FromDeploy, 2)
	if !strings.Contains(s.status().Refused, "missing in the storage") {
		t.Errorf("refused: %q", s.status().Refused)
	}
	if err := s.reload(func(p *Plugin) { p.OnError = "drop" }); err != nil {
		t.Fatal(err)
	}
	s.runs(two, FromDeploy, 2)
	s.deploy(one, Change{})
	s.runs(one, FromDeploy, 3) // versions do not go back
	if s.status().Refused != "" {
		t.Errorf("refused: %q", s.status().Refused)
	}
}

// Without a place for its state, a node decides as a new container does.
func TestStateCannotBeKept(t *testing.T) {
	s := newSite(t)
	one, two := module(t, "one1"), module(t, "two2")
	blocked := filepath.Join(s.dir, "blocked")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_DATA_HOME", blocked)
	s.write(one)
	s.start()
	s.deploy(two, Change{})
	s.start()
	s.runs(two, FromDeploy, 2)
	s.write(module(t, "tre3"))
	s.follows()
	s.runs(module(t, "tre3"), FromFile, 0)
	s.start()
	s.runs(module(t, "tre3"), FromFile, 0)
}

// What the check of a configuration refuses is not compiled again by the start that follows, nor by the next start.
func TestRefusalIsRemembered(t *testing.T) {
	s := newSite(t)
	s.write(module(t, "one1"))
	s.start()
	s.deploy(module(t, "two2"), Change{})
	s.close()
	s.write(withManifest(t, module(t, "bad1"), `{"grants": ["kv"]}`))
	check := func() *Plugin {
		t.Helper()
		p := s.plugin
		if err := p.Provision(); err != nil {
			t.Fatal(err)
		}
		if err := Check(context.Background(), []*Plugin{&p}, Store{s.storage}, plugins.Limits{}); err != nil {
			t.Fatal(err)
		}
		return &p
	}
	p := check()
	if len(p.refused.Refusals) != 1 {
		t.Fatalf("refused are %+v", p.refused)
	}
	h, err := New(hub.New(quiet), quiet, quiet)
	if err != nil {
		t.Fatal(err)
	}
	s.Host = h
	if err := h.Apply(context.Background(), []*Plugin{p}, Store{s.storage}); err != nil {
		t.Fatal(err)
	}
	s.runs(module(t, "two2"), FromDeploy, 2)
	if p := check(); len(p.refused.Refusals) != 0 {
		t.Error("the next start checks the file again")
	}
}
