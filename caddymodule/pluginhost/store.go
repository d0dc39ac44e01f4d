package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/edgerelay/edgerelay/plugins"
)

// deployment is the record of the last deployed module of a plugin, for all nodes that share a storage.
type deployment struct {
	// Hash and Previous identify modules by content, see [plugins.Hash]. A rollback deploys Previous, which may be
	// empty.
	Hash     string `json:"hash"`
	Previous string `json:"previous,omitempty"`
	// At is the time of the deployment.
	At time.Time `json:"at"`
}

// Store keeps deployed modules in Caddy's storage:
//
//	edgerelay/plugins/<name>/deployment.json
//	edgerelay/plugins/<name>/<hash>.wasm
type Store struct{ Storage certmagic.Storage }

func storeKey(name, file string) string { return path.Join("edgerelay", "plugins", name, file) }

func moduleKey(name, hash string) string { return storeKey(name, hash+".wasm") }

// lastDeployment returns a plugin's last deployment, nil if there is none.
func (s Store) lastDeployment(ctx context.Context, name string) (*deployment, error) {
	b, err := s.Storage.Load(ctx, storeKey(name, "deployment.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("plugin %s: load the deployment from the storage: %w", name, err)
	}
	var d deployment
	if err := json.Unmarshal(b, &d); err != nil || d.Hash == "" {
		return nil, fmt.Errorf("plugin %s: the deployment in the storage is invalid (%v); deploy again", name, err)
	}
	return &d, nil
}

// loadModule returns a deployed module.
func (s Store) loadModule(ctx context.Context, name, hash string) ([]byte, error) {
	wasm, err := s.Storage.Load(ctx, moduleKey(name, hash))
	if err != nil {
		return nil, fmt.Errorf("plugin %s: load the deployed module %.12s: %w", name, hash, err)
	}
	if plugins.Hash(wasm) != hash {
		return nil, fmt.Errorf("plugin %s: the module %.12s in the storage is damaged; deploy again", name, hash)
	}
	return wasm, nil
}

// deploy stores wasm as the module of a plugin, and previous, which may be nil, for a rollback. With a deployment, an
// error means only that the lock was not released.
func (s Store) deploy(ctx context.Context, name string, wasm, previous []byte) (_ *deployment, err error) {
	fail := func(err error) (*deployment, error) {
		if IsDiskFull(err) {
			err = fmt.Errorf("%w; free disk space and deploy again; the running module stays", err)
		}
		return nil, fmt.Errorf("plugin %s: store the module: %w", name, err)
	}
	lock := "edgerelay-plugin-" + name
	if err := s.Storage.Lock(ctx, lock); err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, s.Storage.Unlock(context.WithoutCancel(ctx), lock)) }()
	d := &deployment{Hash: plugins.Hash(wasm), At: time.Now()}
	// The clock of another node may be ahead.
	if last, err := s.lastDeployment(ctx, name); err == nil && last != nil && !d.At.After(last.At) {
		d.At = last.At.Add(1)
	}
	keep := map[string][]byte{d.Hash: wasm}
	if previous != nil {
		d.Previous = plugins.Hash(previous)
		keep[d.Previous] = previous
	}
	for hash, module := range keep {
		if err := s.Storage.Store(ctx, moduleKey(name, hash), module); err != nil {
			return fail(err)
		}
	}
	record, err := json.Marshal(d)
	if err != nil {
		return fail(err)
	}
	if err := s.Storage.Store(ctx, storeKey(name, "deployment.json"), record); err != nil {
		return fail(err)
	}
	keys, err := s.Storage.List(ctx, storeKey(name, ""), false)
	if err != nil {
		return d, nil // old modules stay in the storage, without harm
	}
	for _, key := range keys {
		hash, isModule := strings.CutSuffix(path.Base(key), ".wasm")
		if isModule && keep[hash] == nil {
			_ = s.Storage.Delete(ctx, key)
		}
	}
	return d, nil
}

// IsDiskFull reports whether an error means that the disk or a quota is full.
func IsDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
