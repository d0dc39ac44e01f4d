package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

const (
	// refusalLife bounds how long a node remembers that it refused a module: the cause may have been a busy machine.
	refusalLife = time.Hour
	// maxRefusals bounds the refusals that a node remembers per plugin.
	maxRefusals = 8
	// maxStates bounds the files in the directory of a node's states, which containers with changing names add to.
	maxStates = 1000
)

// memory is the part of a plugin's state that a node keeps across restarts.
type memory struct {
	nodeState
	// Refusals are the modules that this node refused, the last one at the end.
	Refusals []refusal `json:"refusals,omitempty"`
}

// refusal is a module that a node refused with certain settings.
type refusal struct {
	// Attempt identifies module, settings, samples and this version of edgerelay.
	Attempt string    `json:"attempt"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// remember adds a refusal.
func (m *memory) remember(r refusal) {
	m.Refusals = slices.DeleteFunc(slices.Clone(m.Refusals), func(o refusal) bool { return o.Attempt == r.Attempt })
	m.Refusals = append(m.Refusals, r)
	if n := len(m.Refusals) - maxRefusals; n > 0 {
		m.Refusals = m.Refusals[n:]
	}
}

// refused returns the reason why a module was refused lately, or an empty text.
func (m *memory) refused(attempt string, now time.Time) string {
	for _, r := range m.Refusals {
		if age := now.Sub(r.At); r.Attempt == attempt && age >= 0 && age < refusalLife {
			return r.Reason
		}
	}
	return ""
}

// memories keeps the memory of each plugin in a directory of this node, because a file belongs to a node.
// Without a directory, a node decides after a restart as a new container does.
type memories struct {
	dir    string
	log    *slog.Logger
	warned atomic.Bool
}

// path returns the file of a plugin's memory. Nodes that share the directory have different host names or files. The
// memory of another storage says nothing about this one.
func (m *memories) path(p *Plugin, store Store) string {
	host, _ := os.Hostname() // without a name, the file alone identifies the node
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", host, p.path, store.identity()))
	return filepath.Join(m.dir, p.Name+"-"+hex.EncodeToString(sum[:8])+".json")
}

// load returns a plugin's memory, an empty one if there is none or it cannot be read.
func (m *memories) load(p *Plugin, store Store) (out memory) {
	b, err := os.ReadFile(m.path(p, store))
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		out = memory{}
		if !errors.Is(err, fs.ErrNotExist) {
			m.warn(err)
		}
	}
	return out
}

// save stores a plugin's memory.
func (m *memories) save(p *Plugin, store Store, state memory) {
	b, err := json.Marshal(state)
	if err == nil {
		err = m.write(m.path(p, store), b)
	}
	if err != nil {
		m.warn(err)
	}
}

func (m *memories) write(name string, b []byte) error {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(m.dir, ".state-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	m.prune()
	return nil
}

// prune deletes the oldest states beyond maxStates.
func (m *memories) prune() {
	entries, err := os.ReadDir(m.dir)
	if err != nil || len(entries) <= maxStates {
		return
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return changedAt(a).Compare(changedAt(b)) })
	for _, e := range entries[:len(entries)-maxStates] {
		_ = os.Remove(filepath.Join(m.dir, e.Name()))
	}
}

func changedAt(e fs.DirEntry) time.Time {
	info, err := e.Info()
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func (m *memories) warn(err error) {
	if !m.warned.Swap(true) {
		m.log.Warn("plugin state not kept", "error", err,
			"effect", "after a restart a deployment runs if it was made over this file, else the file runs",
			"remedy", "make Caddy's data directory writable")
	}
}

// attemptOf identifies the check of a module with everything that its result depends on, except the values of secrets:
// the result may be stored.
func attemptOf(hash string, p *Plugin, settings json.RawMessage, samples []plugins.Sample) string {
	own, _ := json.Marshal(p)
	tried, _ := json.Marshal(samples)
	h := sha256.New()
	limits := fmt.Append(nil, p.loading, p.trust)
	for _, part := range [][]byte{[]byte(hash), own, settings, tried, limits, []byte(engineVersion())} {
		sum := sha256.Sum256(part)
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// engineVersion identifies this build.
var engineVersion = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return info.String()
})
