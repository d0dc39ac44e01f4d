package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/edgerelay/edgerelay/plugins"
)

const (
	// lockTimeout bounds the wait for another node's change. It is longer than certmagic waits before it takes over the
	// lock of a dead process.
	lockTimeout = 15 * time.Second
	// storageTimeout bounds all work with the storage for a change.
	storageTimeout = time.Minute
	// maxKept bounds the modules in the storage, per plugin and in bytes. The last two versions are kept in any case.
	maxKept = 64 << 20
)

// ErrBusy is returned while another node changes the plugin, or if the plugin changes again and again.
var ErrBusy = errors.New("another change of this plugin is in progress; try again")

// Store keeps deployed modules in Caddy's storage:
//
//	edgerelay/plugins/<name>/deployment.json
//	edgerelay/plugins/<name>/<hash>.wasm
type Store struct{ Storage certmagic.Storage }

// identity returns the storage's own description of its place, empty if it has none.
func (s Store) identity() string {
	if named, ok := s.Storage.(fmt.Stringer); ok {
		return named.String()
	}
	return ""
}

func storeKey(name, file string) string { return path.Join("edgerelay", "plugins", name, file) }

func moduleKey(name, hash string) string { return storeKey(name, hash+".wasm") }

// load returns the record of a plugin's deployments, nil if there is none.
func (s Store) load(ctx context.Context, name string) (*record, error) {
	b, err := s.Storage.Load(ctx, storeKey(name, "deployment.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &StorageError{fmt.Errorf("plugin %s: load the deployment from the storage: %w", name, err)}
	}
	r, err := parseRecord(b)
	if err != nil {
		return nil, &damagedError{fmt.Errorf(
			"plugin %s: the deployment in the storage is invalid (%v); deploy again", name, err)}
	}
	return r, nil
}

// StorageError is an error of the storage, in which the request plays no part.
type StorageError struct{ err error }

// Error implements error.
func (e *StorageError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *StorageError) Unwrap() error { return e.err }

// damagedError is the error of a record that a deployment may replace.
type damagedError struct{ error }

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

// kept returns the hashes of the modules in the storage.
func (s Store) kept(ctx context.Context, name string) (map[string]bool, error) {
	keys, err := s.Storage.List(ctx, storeKey(name, ""), false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	hashes := map[string]bool{}
	for _, key := range keys {
		if hash, isModule := strings.CutSuffix(path.Base(key), ".wasm"); isModule {
			hashes[hash] = true
		}
	}
	return hashes, nil
}

// update changes a plugin's record under the storage's lock, which all nodes share. change gets the record as it is
// then, empty if there is none, and returns the modules to store. With replace, a damaged record is replaced. If the
// record was written, an error means only that the lock was not released; stored tells so.
func (s Store) update(
	ctx context.Context, name string, replace bool, change func(*record) (modules [][]byte, err error),
) (stored bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storageTimeout)
	defer cancel()
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	r, err := s.load(ctx, name)
	if damaged := new(damagedError); errors.As(err, &damaged) && replace {
		r, err = nil, nil
	}
	if err != nil {
		return false, err
	}
	if r == nil {
		r = &record{}
	}
	modules, err := change(r)
	if err != nil {
		return false, err
	}
	if err := s.write(ctx, name, r, modules); err != nil {
		return false, &StorageError{fmt.Errorf("plugin %s: store the module: %w", name, adviseOnDisk(err))}
	}
	s.prune(ctx, name, r)
	return true, nil
}

// lock acquires the storage's lock of a plugin. Another node's change is short, so a lock that is held for long belongs
// to a node in trouble, and the caller must not hang with that node.
func (s Store) lock(ctx context.Context, name string) (unlock func() error, err error) {
	key := "edgerelay-plugin-" + name
	locking, cancel := context.WithTimeout(ctx, lockTimeout)
	if err := s.Storage.Lock(locking, key); err != nil {
		defer cancel()
		if locking.Err() != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("plugin %s: lock the deployment in the storage: %w", name, ErrBusy)
		}
		if !IsDiskFull(err) && strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
			err = &causeError{err, syscall.ENOSPC} // certmagic keeps only the text of the cause
		}
		return nil, &StorageError{fmt.Errorf("plugin %s: lock the deployment in the storage: %w", name, adviseOnDisk(err))}
	}
	return func() error {
		defer cancel()
		return s.Storage.Unlock(ctx, key)
	}, nil
}

// write stores the modules first, so that the record never names a module that is not there.
func (s Store) write(ctx context.Context, name string, r *record, modules [][]byte) error {
	for _, wasm := range modules {
		if err := s.Storage.Store(ctx, moduleKey(name, plugins.Hash(wasm)), wasm); err != nil {
			return err
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.Storage.Store(ctx, storeKey(name, "deployment.json"), b)
}

// prune deletes the modules that no version needs, and the oldest beyond maxKept. A module that cannot be deleted stays
// without harm.
func (s Store) prune(ctx context.Context, name string, r *record) {
	kept, err := s.kept(ctx, name)
	if err != nil {
		return
	}
	keep, size, contents := map[string]bool{}, 0, 0
	for _, e := range slices.Backward(r.History) {
		if keep[e.Hash] {
			continue
		}
		size += e.Size
		if contents++; contents > 2 && size > maxKept {
			break
		}
		keep[e.Hash] = true
	}
	if c := r.canary(); c != nil {
		keep[c.Candidate.Hash] = true
	}
	for hash := range kept {
		if !keep[hash] {
			_ = s.Storage.Delete(ctx, moduleKey(name, hash))
		}
	}
}

// addFile records that a node with this file has applied a version, so that a new container with the same file decides
// alike.
func (s Store) addFile(ctx context.Context, name, id, file string) error {
	_, err := s.update(ctx, name, false, func(r *record) ([][]byte, error) {
		e := r.last()
		if e == nil || e.ID != id || slices.Contains(e.Files, file) || len(e.Files) >= maxFilesRecorded {
			return nil, errUnchanged
		}
		e.Files = append(e.Files, file)
		return nil, nil
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// errUnchanged ends an update without effect.
var errUnchanged = errors.New("nothing to change")

// causeError is an error whose cause had been lost in its text.
type causeError struct {
	error
	cause error
}

func (e *causeError) Unwrap() error { return e.cause }

// adviseOnDisk adds the remedy to the error of a full disk.
func adviseOnDisk(err error) error {
	if !IsDiskFull(err) {
		return err
	}
	return fmt.Errorf("%w; free disk space and repeat the change; the running module stays", err)
}

// IsDiskFull reports whether an error means that the disk or a quota is full.
func IsDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
