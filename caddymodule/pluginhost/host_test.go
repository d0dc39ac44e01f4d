package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
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

var quiet = slog.New(slog.DiscardHandler)

// module returns a fixture whose events begin with {"<word>":true,.
func module(t testing.TB, word string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("..", "..", "plugins", "testdata", "filter.wasm"))
	if err != nil || len(word) != 4 {
		t.Fatal(err, word)
	}
	return bytes.Replace(wasm, []byte("seen"), []byte(word), 1)
}

func withManifest(t testing.TB, wasm []byte, manifest string) []byte {
	t.Helper()
	out, err := plugins.EmbedManifest(wasm, []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// site is a node with the plugin p, which can restart.
type site struct {
	t       *testing.T
	dir     string
	file    string
	storage certmagic.Storage
	plugin  Plugin
	*Host
}

func newSite(t *testing.T) *site {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))
	s := &site{
		t: t, dir: dir, file: filepath.Join(dir, "p.wasm"),
		storage: &certmagic.FileStorage{Path: filepath.Join(dir, "storage")},
		plugin:  Plugin{Name: "p", Groups: []string{"g-*"}, Instances: 1},
	}
	s.plugin.File = s.file
	t.Cleanup(func() { s.close() })
	return s
}

func (s *site) close() {
	if s.Host != nil {
		_ = s.Host.Close()
		s.Host = nil
	}
}

// tryStart starts the node, or starts it again.
func (s *site) tryStart() error {
	s.t.Helper()
	s.close()
	h, err := New(hub.New(quiet), quiet, quiet)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Host = h
	return s.reload(func(*Plugin) {})
}

func (s *site) start() {
	s.t.Helper()
	if err := s.tryStart(); err != nil {
		s.t.Fatal(err)
	}
}

// reload applies the configuration, which change changes for good.
func (s *site) reload(change func(*Plugin)) error {
	change(&s.plugin)
	p := s.plugin
	if err := p.Provision(); err != nil {
		return err
	}
	return s.Apply(context.Background(), []*Plugin{&p}, Store{s.storage})
}

// write replaces the plugin's file. The file has always the same time, as in an image.
func (s *site) write(wasm []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.file, wasm, 0o600); err != nil {
		s.t.Fatal(err)
	}
	at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := os.Chtimes(s.file, at, at); err != nil {
		s.t.Fatal(err)
	}
}

// follows lets the node check file and storage until the file is stable.
func (s *site) follows() {
	s.t.Helper()
	seen := &seenFiles{}
	for range 2 {
		release, err := s.acquire(context.Background(), "p")
		if err != nil {
			s.t.Fatal(err)
		}
		s.refresh(context.Background(), "p", seen, true)
		release()
	}
}

func (s *site) status() Status {
	s.t.Helper()
	list := s.Status()
	if len(list) != 1 {
		s.t.Fatalf("%d plugins run", len(list))
	}
	return list[0]
}

func (s *site) runs(wasm []byte, from Source, version uint64) {
	s.t.Helper()
	if p := s.status(); p.Hash != plugins.Hash(wasm) || p.From != string(from) || p.Version != version {
		s.t.Fatalf("runs %.8s from %s, version %d, refused %q; want %.8s from %s, version %d",
			p.Hash, p.From, p.Version, p.Refused, plugins.Hash(wasm), from, version)
	}
}

func (s *site) deploy(wasm []byte, c Change) {
	s.t.Helper()
	if err := s.Deploy(context.Background(), "p", wasm, c); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) history() []HistoryEntry {
	s.t.Helper()
	list, err := s.History(context.Background(), "p")
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// TestRestartDecidesAlike is the fault of modification times: a file with an old time took over on the running node,
// and after a restart the earlier deployment ran again.
func TestRestartDecidesAlike(t *testing.T) {
	s := newSite(t)
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	s.write(one)
	s.start()
	s.runs(one, FromFile, 0)
	s.deploy(two, Change{})
	s.runs(two, FromDeploy, 2)
	s.start()
	s.runs(two, FromDeploy, 2)

	touched := time.Now().Add(time.Hour)
	if err := os.Chtimes(s.file, touched, touched); err != nil {
		t.Fatal(err)
	}
	s.follows()
	s.runs(two, FromDeploy, 2)
	s.start()
	s.runs(two, FromDeploy, 2)

	s.write(three)
	s.follows()
	s.runs(three, FromFile, 0)
	s.start()
	s.runs(three, FromFile, 0)
	s.deploy(one, Change{})
	s.start()
	s.runs(one, FromDeploy, 4) // after the third module, as a file, in version 3
}

// Of a new container, only the image and the storage are known.
func TestNewContainer(t *testing.T) {
	s := newSite(t)
	one, two, next := module(t, "one1"), module(t, "two2"), module(t, "next")
	s.write(one)
	s.start()
	s.deploy(two, Change{})
	anew := func() {
		s.close()
		t.Setenv("XDG_DATA_HOME", t.TempDir())
		s.start()
	}
	anew()
	s.runs(two, FromDeploy, 2)
	s.write(next)
	anew()
	s.runs(next, FromFile, 0)
	s.write(one) // the image is rolled back
	anew()
	s.runs(two, FromDeploy, 2)
}

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

func TestSettingsTravelWithTheModule(t *testing.T) {
	s := newSite(t)
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	s.plugin.OnError = "pass"
	s.write(one)
	s.start()
	s.deploy(two, Change{Settings: []byte(`{"on_error": "drop", "fuel": 5000, "groups": ["h-*"], "grants": ["kv"]}`)})
	check := func() {
		t.Helper()
		if p := s.status(); p.OnError != "drop" || p.FuelLimit != 5000 || len(p.Grants) != 1 || p.Groups[0] != "h-*" {
			t.Errorf("runs with %s, %d, %q, %q", p.OnError, p.FuelLimit, p.Grants, p.Groups)
		}
	}
	check()
	s.start()
	check()
	s.deploy(three, Change{})
	if p := s.status(); p.OnError != "pass" || p.FuelLimit != plugins.DefaultFuel || p.Groups[0] != "g-*" {
		t.Errorf("the next module runs with %s, %d, %q", p.OnError, p.FuelLimit, p.Groups)
	}
	if err := s.Rollback(context.Background(), "p", Change{}); err != nil {
		t.Fatal(err)
	}
	check()
	for settings, want := range map[string]string{
		`{"file": "/etc/passwd"}`: "belongs to each node",
		`{"samples": "x"}`:        "belongs to each node",
		`{"colour": "red"}`:       "colour",
		`[]`:                      "not a JSON object",
		`{"grants": ["root"]}`:    "root",
	} {
		err := s.Deploy(context.Background(), "p", one, Change{Settings: []byte(settings)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
	}
}

func TestSecretsAreResolvedOnTheNode(t *testing.T) {
	s := newSite(t)
	t.Setenv("PLUGIN_TOKEN", "hunter2")
	const schema = `{"grants": ["kv"], "config_schema": {"required": ["token"], "properties": {"token": {"enum": ["hunter2"]}}}}`
	wasm := withManifest(t, module(t, "one1"), schema)
	s.plugin.Config = json.RawMessage(`{"token": "{env.PLUGIN_TOKEN}"}`)
	s.write(wasm)
	if err := s.tryStart(); err == nil || !strings.Contains(err.Error(), "add 'grant kv'") {
		t.Fatalf("without the grant: %v", err)
	}
	s.plugin.Grants = []string{"kv"}
	s.start()
	s.deploy(withManifest(t, module(t, "two2"), schema), Change{Settings: []byte(`{"config": {"token": "{env.PLUGIN_TOKEN}"}}`)})
	for _, name := range []string{"storage", "data"} {
		_ = filepath.WalkDir(filepath.Join(s.dir, name), func(path string, e os.DirEntry, _ error) error {
			if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte("hunter2")) && !strings.HasSuffix(path, ".wasm") {
				t.Errorf("%s has the secret", path)
			}
			return nil
		})
	}
	err := s.Deploy(context.Background(), "p", wasm, Change{Settings: []byte(`{"config": {"token": "{env.PLUGIN_NONE}"}}`)})
	if err == nil || !strings.Contains(err.Error(), "PLUGIN_NONE") {
		t.Errorf("a missing secret: %v", err)
	}
	t.Setenv("PLUGIN_TOKEN", "swordfish")
	if err := s.tryStart(); err == nil || strings.Contains(err.Error(), "swordfish") {
		t.Errorf("another secret: %v", err)
	}
}

// A file that cannot run does not replace a deployment that does, is not compiled again and again, and a start without a
// deployment fails.
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

// A deployment of an earlier edgerelay runs, and images built later take over.
func TestDeploymentOfAnEarlierEdgerelay(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	one, two, next := module(t, "one1"), module(t, "two2"), module(t, "next")
	text, err := json.Marshal(map[string]any{"hash": plugins.Hash(two), "at": time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for key, b := range map[string][]byte{moduleKey("p", plugins.Hash(two)): two, storeKey("p", "deployment.json"): text} {
		if err := s.storage.Store(ctx, key, b); err != nil {
			t.Fatal(err)
		}
	}
	s.write(one)
	s.start()
	s.runs(two, FromDeploy, 1)
	s.background.Wait() // the file is recorded
	s.close()
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	s.start()
	s.runs(two, FromDeploy, 1)
	s.write(next)
	s.close()
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	s.start()
	s.runs(next, FromFile, 0)
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
