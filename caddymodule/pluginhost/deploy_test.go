package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay/hub"
)

func TestUndeploy(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	s.write(one)
	s.start()
	if err := s.Undeploy(ctx, "p", Change{}); !errors.Is(err, ErrNotDeployed) {
		t.Errorf("without a deployment: %v", err)
	}
	s.deploy(two, Change{})
	s.write([]byte("no module"))
	if err := s.Undeploy(ctx, "p", Change{}); err == nil {
		t.Error("a deployment is taken back although the file cannot run")
	}
	s.runs(two, FromDeploy, 2)
	s.write(three)
	if err := s.Undeploy(ctx, "p", Change{By: "alice", Message: "emergency is over"}); err != nil {
		t.Fatal(err)
	}
	s.runs(three, FromFile, 0)
	s.start()
	s.runs(three, FromFile, 0)
	if err := s.Undeploy(ctx, "p", Change{}); !errors.Is(err, ErrNotDeployed) {
		t.Errorf("twice: %v", err)
	}
	if e := s.history()[0]; e.Origin != OriginUndeploy || e.By != "alice" || e.Message != "emergency is over" || !e.Current {
		t.Errorf("the history begins with %+v", e)
	}
	if got := s.status().Previous; got != plugins.Hash(two) {
		t.Errorf("a rollback would run %.8s", got)
	}
	if err := s.Rollback(ctx, "p", Change{}); err != nil {
		t.Fatal(err)
	}
	s.runs(two, FromDeploy, 4)
	if err := s.Rollback(ctx, "p", Change{}); err != nil { // back to the files
		t.Fatal(err)
	}
	s.runs(three, FromFile, 0)
}

func TestRollback(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	s.write(one)
	s.start()
	if err := s.Rollback(ctx, "p", Change{}); !errors.Is(err, ErrNoPrevious) {
		t.Errorf("to nothing: %v", err)
	}
	s.write(two)
	s.follows()
	if err := s.Rollback(ctx, "p", Change{}); err != nil { // to the file before, without a history
		t.Fatal(err)
	}
	s.runs(one, FromDeploy, 2)
	s.deploy(three, Change{})
	for _, want := range [][]byte{one, three, one} {
		if err := s.Rollback(ctx, "p", Change{}); err != nil {
			t.Fatal(err)
		}
		if got := s.status().Hash; got != plugins.Hash(want) {
			t.Fatalf("runs %.8s", got)
		}
	}
	if err := s.Rollback(ctx, "p", Change{To: 3}); err != nil {
		t.Fatal(err)
	}
	s.runs(three, FromDeploy, 7)
	if e := s.history()[0]; e.Of != 3 || e.Origin != OriginRollback {
		t.Errorf("the history begins with %+v", e)
	}
	if err := s.Rollback(ctx, "p", Change{To: 99}); !errors.Is(err, ErrUnknownVersion) {
		t.Errorf("an unknown version: %v", err)
	}
	s.start()
	s.runs(three, FromDeploy, 7)
}

// A change of the samples must not block the way back to yesterday's module.
func TestForcedRollback(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	one, two := module(t, "one1"), module(t, "two2")
	samples := filepath.Join(s.dir, "samples.ndjson")
	expect := func(word string) {
		t.Helper()
		text := `{"group": "tag", "payload": {"n": 1}, "verdict": "replace", "output": {"` + word + `": true, "n": 1}}`
		if err := os.WriteFile(samples, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect("one1")
	s.plugin.Samples = samples
	s.write(one)
	s.start()
	expect("two2")
	s.follows()
	if refused := s.status().Refused; refused == "" {
		t.Error("nothing tells that the running module fails the changed samples")
	}
	s.deploy(two, Change{})
	err := s.Rollback(ctx, "p", Change{})
	if err == nil {
		t.Fatal("a rollback past the samples is made without force")
	}
	if err := s.Rollback(ctx, "p", Change{Force: true, Expect: []string{plugins.Hash(two)}}); err != nil {
		t.Fatal(err)
	}
	s.runs(one, FromDeploy, 3)
	if !s.status().Forced || !s.history()[0].Forced {
		t.Error("nothing tells that the samples were skipped")
	}
	s.start() // with samples that the module fails
	s.runs(one, FromDeploy, 3)
	if err := s.Rollback(ctx, "p", Change{}); err != nil { // the next module passes its samples
		t.Fatal(err)
	}
	s.runs(two, FromDeploy, 4)
}

func TestExpectedHash(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	s.write(one)
	s.start()
	expect := Change{Expect: []string{plugins.Hash(one)}}
	s.deploy(two, expect)
	for name, change := range map[string]func() error{
		"deploy":   func() error { return s.Deploy(ctx, "p", three, expect) },
		"rollback": func() error { return s.Rollback(ctx, "p", expect) },
		"undeploy": func() error { return s.Undeploy(ctx, "p", expect) },
	} {
		var changed *ChangedError
		if err := change(); !errors.As(err, &changed) || changed.Hash != plugins.Hash(two) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.deploy(three, Change{Expect: []string{"*"}})
}

// What another node has deployed counts before this node has noticed.
func TestLostUpdateOfAnotherNode(t *testing.T) {
	s := newSite(t)
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	s.write(one)
	s.start()
	s.deploy(one, Change{})
	s.stop() // the watcher sees nothing from here on
	if _, err := (Store{s.storage}).update(context.Background(), "p", false, func(r *record) ([][]byte, error) {
		r.add(&entry{ID: newID(), Hash: plugins.Hash(two), Origin: OriginDeploy, At: time.Now()})
		return [][]byte{two}, nil
	}); err != nil {
		t.Fatal(err)
	}
	s.closing = context.Background()
	err := s.Deploy(context.Background(), "p", three, Change{Expect: []string{plugins.Hash(one)}})
	var changed *ChangedError
	if !errors.As(err, &changed) || changed.Hash != plugins.Hash(two) {
		t.Errorf("got %v", err)
	}
}

func TestHistoryTellsWhoAndWhy(t *testing.T) {
	s := newSite(t)
	s.write(module(t, "one1"))
	s.start()
	s.deploy(withManifest(t, module(t, "two2"), `{"name": "tagger", "version": "2.1"}`), Change{
		By: "alice@host", Message: "masks tokens", Settings: []byte(`{"config": {"token": "hunter2"}, "fuel": 5000}`),
	})
	list := s.history()
	if len(list) != 2 {
		t.Fatalf("got %+v", list)
	}
	e := list[0]
	if e.By != "alice@host" || e.Message != "masks tokens" || e.Module != "tagger" || e.ModuleVersion != "2.1" ||
		!e.Running || !e.Current || !e.Available || !e.HasConfig || string(e.Settings["fuel"]) != "5000" || e.At.IsZero() {
		t.Errorf("got %+v", e)
	}
	if list[1].Origin != OriginFile || list[1].Current {
		t.Errorf("before: %+v", list[1])
	}
	for _, shown := range []any{list, s.Status()} {
		if text, err := json.Marshal(shown); err != nil || strings.Contains(string(text), "hunter2") {
			t.Errorf("shown is %s, %v", text, err)
		}
	}
	for _, bad := range []Change{{By: "a\nb"}, {Message: strings.Repeat("x", maxMessage+1)}, {By: "\x1b[2J"}} {
		if err := s.Deploy(context.Background(), "p", module(t, "tre3"), bad); !errors.Is(err, ErrInvalidChange) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// slowStorage stores modules of the plugin "slow" when the test says so.
type slowStorage struct {
	certmagic.Storage
	reached, release chan struct{}
}

func (s *slowStorage) Store(ctx context.Context, key string, value []byte) error {
	if strings.HasSuffix(key, ".wasm") && strings.Contains(key, "/slow/") {
		s.reached <- struct{}{}
		<-s.release
	}
	return s.Storage.Store(ctx, key, value)
}

// A deployment that takes long holds up neither other plugins, nor a reload, nor the end of the process.
func TestSlowDeploymentHoldsUpNobody(t *testing.T) {
	s := newSite(t)
	storage := &slowStorage{s.storage, make(chan struct{}), make(chan struct{})}
	s.write(module(t, "one1"))
	h, err := New(hub.New(quiet), quiet, quiet)
	if err != nil {
		t.Fatal(err)
	}
	s.Host = h
	apply := func(onError string) {
		t.Helper()
		list := []*Plugin{
			{Name: "slow", File: s.file, Groups: []string{"g-*"}},
			{Name: "p", File: s.file, Groups: []string{"h-*"}, OnError: onError},
		}
		for _, p := range list {
			if err := p.Provision(); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.Apply(context.Background(), list, Store{storage}); err != nil {
			t.Fatal(err)
		}
	}
	apply("pass")
	slow := make(chan error)
	go func() { slow <- h.Deploy(context.Background(), "slow", module(t, "two2"), Change{}) }()
	<-storage.reached
	s.deploy(module(t, "tre3"), Change{})
	if list := h.Status(); list[1].Version != 2 {
		t.Errorf("the other plugin runs version %d", list[1].Version)
	}
	apply("drop") // a reload
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.Deploy(ctx, "slow", module(t, "four"), Change{}); !errors.Is(err, ErrBusy) {
		t.Errorf("a second deployment of the plugin: %v", err)
	}
	closed := make(chan error)
	go func() { closed <- h.Close() }()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	close(storage.release)
	go func() {
		for range storage.reached {
		}
	}()
	<-slow
	close(storage.reached)
}

// heldStorage has a lock that another node never releases.
type heldStorage struct{ certmagic.Storage }

func (heldStorage) Lock(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestHeldLockIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stored, err := Store{heldStorage{}}.update(context.Background(), "p", true, nil)
		if stored || !errors.Is(err, ErrBusy) {
			t.Errorf("got %v, %v", stored, err)
		}
	})
}

// Of several nodes that deploy at once and expect the same module, one succeeds.
func TestSimultaneousDeployments(t *testing.T) {
	s := newSite(t)
	one := module(t, "one1")
	s.write(one)
	hosts := make([]*Host, 3)
	for i := range hosts {
		t.Setenv("XDG_DATA_HOME", t.TempDir())
		h, err := New(hub.New(quiet), quiet, quiet)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close() })
		s.Host, hosts[i] = h, h
		if err := s.reload(func(*Plugin) {}); err != nil {
			t.Fatal(err)
		}
	}
	s.Host = nil
	errs := make(chan error)
	for i, h := range hosts {
		wasm := module(t, []string{"two2", "tre3", "four"}[i])
		go func() {
			errs <- h.Deploy(context.Background(), "p", wasm, Change{Expect: []string{plugins.Hash(one)}})
		}()
	}
	succeeded := 0
	for range hosts {
		var changed *ChangedError
		switch err := <-errs; {
		case err == nil:
			succeeded++
		case !errors.As(err, &changed):
			t.Error(err)
		}
	}
	r, err := (Store{s.storage}).load(context.Background(), "p")
	if succeeded != 1 || err != nil || len(r.History) != 2 {
		t.Errorf("%d deployments succeeded, history %+v, %v", succeeded, r, err)
	}
}
