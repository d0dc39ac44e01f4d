package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/plugins/artifact"
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
	keys    artifact.Keys
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
	if err := errors.Join(p.SetKeys(s.keys), p.Provision()); err != nil {
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
	restart := func() {
		s.close()
		t.Setenv("XDG_DATA_HOME", t.TempDir())
		s.start()
	}
	restart()
	s.runs(two, FromDeploy, 2)
	s.write(next)
	restart()
	s.runs(next, FromFile, 0)
	s.write(one) // the image is rolled back
	restart()
	s.runs(two, FromDeploy, 2)
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
