package plugins

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Bounds of the store, besides the modules in use.
const (
	maxStoredModules = 32
	maxStoredBytes   = 256 << 20
	// abandonedAfter is the age at which a temporary directory belongs to a process that has ended: the limit of
	// a compilation is far shorter.
	abandonedAfter = time.Hour
	tempPrefix     = "compiling-"
)

// codeStore is the directory of compiled modules: a directory for each module, with the name of the metered module's
// hash, which is a cache directory of the engine with that module alone. The files are trusted code. Several processes
// may share a store. The modification time of a module's directory is the time of its last use.
type codeStore struct{ dir string }

// openCodeStore opens and prunes a store. An empty dir stands for none.
func openCodeStore(dir string) (codeStore, error) {
	if dir == "" {
		return codeStore{}, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return codeStore{}, fmt.Errorf("open the plugin cache: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return codeStore{}, fmt.Errorf("create the plugin cache: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return codeStore{}, fmt.Errorf("open the plugin cache: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return codeStore{}, fmt.Errorf(
			"open the plugin cache %s: mode %#o lets other users run code in this process; use chmod 700",
			dir, info.Mode().Perm())
	}
	s := codeStore{dir}
	probe, err := s.tempDir()
	if err != nil {
		return codeStore{}, fmt.Errorf("write to the plugin cache: %w", err)
	}
	_ = os.Remove(probe)
	s.prune(nil)
	return s, nil
}

// path returns the directory of a module.
func (s codeStore) path(hash string) string { return filepath.Join(s.dir, hash) }

func (s codeStore) has(hash string) bool {
	_, err := os.Stat(s.path(hash))
	return err == nil
}

// use records that a module is in use now.
func (s codeStore) use(hash string) {
	now := time.Now()
	_ = os.Chtimes(s.path(hash), now, now) // a read-only store just keeps the time of creation
}

func (s codeStore) remove(hash string) { _ = os.RemoveAll(s.path(hash)) }

// tempDir creates a directory, with mode 0700, for a compilation.
func (s codeStore) tempDir() (string, error) { return os.MkdirTemp(s.dir, tempPrefix) }

// add makes a temporary directory that of a module.
func (s codeStore) add(temp, hash string) error {
	if err := os.Rename(temp, s.path(hash)); err != nil && !s.has(hash) { // another process was faster
		return fmt.Errorf("keep the compiled module: %w", err)
	}
	return nil
}

// prune removes modules that are neither in use nor among the last used ones, and the leftovers of ended processes and
// of older versions, which had one directory for all modules.
func (s codeStore) prune(inUse map[string]bool) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	type stored struct {
		name string
		used time.Time
		size int64
	}
	var modules []stored
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() {
			continue
		}
		switch name := e.Name(); {
		case strings.HasPrefix(name, tempPrefix):
			if time.Since(info.ModTime()) > abandonedAfter {
				s.remove(name)
			}
		case strings.HasPrefix(name, "wazero-"):
			s.remove(name)
		case isHash(name) && !inUse[name]:
			modules = append(modules, stored{name, info.ModTime(), dirSize(s.path(name))})
		}
	}
	slices.SortFunc(modules, func(a, b stored) int { return b.used.Compare(a.used) })
	var bytes int64
	for i, m := range modules {
		if bytes += m.size; i >= maxStoredModules || bytes > maxStoredBytes {
			s.remove(m.name)
		}
	}
}

// isHash reports whether a name is one that Hash returns.
func isHash(name string) bool {
	b, err := hex.DecodeString(name)
	return err == nil && len(b) == 32
}

func dirSize(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}
