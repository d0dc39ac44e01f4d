package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/edgerelay/edgerelay/plugins"
)

// deployTo adds a deployment to the history of plugin a.
func deployTo(t *testing.T, s Store, wasm []byte) *entry {
	t.Helper()
	e := &entry{ID: newID(), Hash: plugins.Hash(wasm), Size: len(wasm), Origin: OriginDeploy, At: time.Now()}
	stored, err := s.update(context.Background(), "a", false, func(r *record) ([][]byte, error) {
		r.add(e)
		return [][]byte{wasm}, nil
	})
	if !stored || err != nil {
		t.Fatal(stored, err)
	}
	return e
}

func TestHistoryIsKept(t *testing.T) {
	ctx := context.Background()
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	s := Store{Storage: storage}
	if r, err := s.load(ctx, "a"); r != nil || err != nil {
		t.Fatalf("an empty storage: %v, %v", r, err)
	}
	var last *entry
	for n := range 14 {
		last = deployTo(t, s, fmt.Append(nil, "module ", n))
	}
	r, err := s.load(ctx, "a")
	if err != nil || len(r.History) != historyLength || r.last().ID != last.ID || r.last().Version != 14 {
		t.Fatalf("got %+v, %v", r, err)
	}
	if r.Hash != last.Hash || r.Previous != r.History[8].Hash {
		t.Errorf("an earlier edgerelay would read %s after %s", r.Hash, r.Previous)
	}
	for _, e := range r.History {
		if wasm, err := s.loadModule(ctx, "a", e.Hash); err != nil || !bytes.Equal(wasm, fmt.Append(nil, "module ", e.Version-1)) {
			t.Errorf("version %d: %q, %v", e.Version, wasm, err)
		}
	}
	if _, err := s.loadModule(ctx, "a", plugins.Hash([]byte("module 0"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a module that no version needs: %v", err)
	}
	if kept, err := s.kept(ctx, "a"); err != nil || len(kept) != historyLength {
		t.Errorf("kept are %d modules, %v", len(kept), err)
	}
}

// Large modules do not fill the storage; the last two versions are kept in any case.
func TestStorageIsBounded(t *testing.T) {
	ctx := context.Background()
	s := Store{Storage: &certmagic.FileStorage{Path: t.TempDir()}}
	for n := range 4 {
		wasm := fmt.Append(nil, "module ", n)
		e := deployTo(t, s, wasm)
		if _, err := s.update(ctx, "a", false, func(r *record) ([][]byte, error) {
			r.find(e.ID).Size = maxKept/2 + 1
			return nil, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := s.kept(ctx, "a")
	if err != nil || len(kept) != 2 || !kept[plugins.Hash([]byte("module 3"))] || !kept[plugins.Hash([]byte("module 2"))] {
		t.Errorf("kept are %v, %v", kept, err)
	}
}

func TestRepeatedDeploymentKeepsThePrevious(t *testing.T) {
	r := &record{}
	for _, hash := range []string{"one", "two", "two", "two"} {
		r.add(&entry{ID: newID(), Hash: hash, Origin: OriginDeploy, At: time.Now()})
	}
	if len(r.History) != 2 || r.last().Version != 4 || r.before(r.last()).Hash != "one" {
		t.Errorf("got %+v", r)
	}
}

func TestRecordOfAnEarlierVersionIsRead(t *testing.T) {
	at := time.Now().UTC()
	text, err := json.Marshal(map[string]any{"hash": "two", "previous": "one", "at": at})
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseRecord(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseRecord(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.History) != 2 || r.last().Hash != "two" || !r.last().At.Equal(at) || r.History[0].Hash != "one" ||
		r.last().ID != again.last().ID || r.last().Version != 2 {
		t.Errorf("got %+v", r)
	}
	r.add(&entry{ID: newID(), Hash: "three", Origin: OriginDeploy, At: at.Add(-time.Hour)})
	if r.last().Version != 3 || !r.last().At.After(at) {
		t.Errorf("the next version is %+v", r.last())
	}
}

func TestDamagedStorage(t *testing.T) {
	ctx := context.Background()
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	s := Store{Storage: storage}
	e := deployTo(t, s, []byte("module"))
	for key, damage := range map[string]string{moduleKey("a", e.Hash): "damaged", storeKey("a", "deployment.json"): "{"} {
		if err := storage.Store(ctx, key, []byte(damage)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.loadModule(ctx, "a", e.Hash); err == nil || !strings.Contains(err.Error(), "deploy again") {
		t.Errorf("a damaged module: %v", err)
	}
	if _, err := s.load(ctx, "a"); err == nil || !strings.Contains(err.Error(), "deploy again") {
		t.Errorf("a damaged record: %v", err)
	}
	for _, replace := range []bool{false, true} {
		stored, err := s.update(ctx, "a", replace, func(r *record) ([][]byte, error) {
			r.addAfter(&entry{ID: newID(), Hash: "new", Origin: OriginDeploy}, 7)
			return nil, nil
		})
		if stored != replace || (err == nil) != replace {
			t.Errorf("replace %v: %v, %v", replace, stored, err)
		}
	}
	if r, err := s.load(ctx, "a"); err != nil || r.last().Version != 8 {
		t.Errorf("got %+v, %v; want version 8, above the one that the node has applied", r, err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"hash":"a","previous":"b","at":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"history":[{"version":1,"id":"x","hash":"a","origin":"deploy","settings":{"fuel":1}}]}`))
	f.Add([]byte(`{"history":[null]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRecord(text)
		if err != nil {
			return
		}
		before := r.last().Version
		r.add(&entry{ID: newID(), Hash: "x", Origin: OriginRollback, At: time.Now()})
		if len(r.History) > historyLength || r.last().Version != before+1 {
			t.Fatalf("got %+v", r.last())
		}
	})
}

// fullLocks is a storage on a full disk: certmagic's error of the lock keeps only the text of the cause.
type fullLocks struct{ certmagic.Storage }

func (fullLocks) Lock(context.Context, string) error {
	return fmt.Errorf("creating lock file: %v", syscall.ENOSPC)
}

func TestFullDiskIsToldAlsoByTheLock(t *testing.T) {
	s := Store{Storage: fullLocks{&certmagic.FileStorage{Path: t.TempDir()}}}
	_, err := s.update(context.Background(), "a", false, func(*record) ([][]byte, error) { return nil, nil })
	if !IsDiskFull(err) || !strings.Contains(err.Error(), "free disk space") {
		t.Errorf("got %v", err)
	}
}
