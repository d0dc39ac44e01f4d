package pluginhost

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// maxPulledKept and maxPulledBytes bound the pulled modules that no plugin runs. The last one used is kept in any case,
// and so is the module that a plugin ran before.
const (
	maxPulledKept  = 16
	maxPulledBytes = 256 << 20
)

// prunePulled deletes the pulled modules that have not been used for the longest time. A deleted module is pulled again
// if a configuration names it.
func (h *Host) prunePulled() {
	list, _ := h.snapshot()
	keep, dirs, now := map[string]bool{}, map[string]bool{}, time.Now()
	for i := range list {
		for _, v := range []*version{list[i].module, list[i].previous} {
			if v == nil || v.plugin == nil || v.plugin.ref == nil {
				continue
			}
			keep[v.plugin.path], dirs[filepath.Dir(v.plugin.path)] = true, true
			_ = os.Chtimes(v.plugin.path, now, now) // the time of the last use
		}
	}
	for dir := range dirs {
		prunePulledIn(dir, keep)
	}
}

// prunePulledIn deletes the modules in a directory beyond the bounds, except those to keep. A module that cannot be
// deleted stays without harm.
func prunePulledIn(dir string, keep map[string]bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return filepath.Ext(e.Name()) != ".wasm" || keep[filepath.Join(dir, e.Name())]
	})
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return changedAt(b).Compare(changedAt(a)) })
	size := int64(0)
	for i, e := range entries {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
		if i == 0 || i < maxPulledKept && size <= maxPulledBytes {
			continue
		}
		path := filepath.Join(dir, e.Name())
		for _, suffix := range []string{"", manifestSuffix, SignatureSuffix} {
			_ = os.Remove(path + suffix)
		}
	}
}
