package pluginhost

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// maxModuleFile is the longest module that is read from a file, in bytes. Package plugins checks the length, too; this
// limit keeps the host from reading a file of any size.
const maxModuleFile = 32 << 20

// version is a module with its settings. It is immutable.
type version struct {
	wasm []byte
	hash string
	from Source
	// at is the time of the file's change or of the deployment, for people.
	at time.Time
	// entry is the deployed version, nil for a file.
	entry *entry
	// configured is the plugin as in the node's configuration, and plugin the same with the settings of the deployment.
	configured, plugin *Plugin
	manifest           *plugins.Manifest
	// signatures are those that came with the module, and signedBy is the name of the key that made one of them; empty
	// without keys in the configuration.
	signatures []artifact.Signature
	signedBy   string
	// next is the node's state once the version runs.
	next nodeState
}

// spec returns the specification for the pipeline.
func (v *version) spec(samples []plugins.Sample) plugins.Spec {
	s := v.plugin.spec
	s.Wasm, s.Samples, s.Trust = v.wasm, samples, v.configured.trust
	if v.entry != nil && v.entry.Forced {
		s.Samples = nil
	}
	return s
}

// number returns the version's number, 0 for a file.
func (v *version) number() uint64 {
	if v.entry == nil {
		return 0
	}
	return v.entry.Version
}

// newVersion returns a version with the module m, and reads the manifest of its module. The pipeline rejects a module
// with an invalid manifest. Each version is made here, so that no module runs without the signature that its plugin
// needs.
func newVersion(from Source, m signedModule, at time.Time, e *entry, configured, plugin *Plugin) (*version, error) {
	v := &version{
		wasm: m.wasm, hash: plugins.Hash(m.wasm), from: from, at: at, entry: e, configured: configured, plugin: plugin,
		signatures: m.signatures,
	}
	var err error
	if v.signedBy, err = configured.verify(m); err != nil {
		return nil, err
	}
	v.manifest, _ = plugins.ReadManifest(m.wasm)
	return v, nil
}

// fileContent is a plugin's file as it was read.
type fileContent struct {
	signedModule
	state fileState
	hash  string // empty if the file cannot be read
	err   error
}

func readFile(name string) (c fileContent) {
	if c.state, c.err = stateOf(name); c.err != nil { // before the read, so that a change during the read is noticed
		return c
	}
	if c.wasm, c.err = readRegular(name, maxModuleFile); c.err == nil {
		c.hash = plugins.Hash(c.wasm)
		c.readSignatures(name)
	}
	return c
}

// stateOf returns the state of a file. A change of the state is only a reason to read the file: its content counts.
func stateOf(name string) (fileState, error) {
	info, err := os.Stat(name)
	if err != nil {
		return fileState{}, err
	}
	return fileState{changed: info.ModTime(), size: info.Size(), identity: identityOf(info)}, nil
}

// fileState distinguishes versions of a file.
type fileState struct {
	changed  time.Time
	size     int64
	identity identity
}

// candidate is a version that may run.
type candidate struct {
	from  Source
	entry *entry // with FromDeploy
	next  nodeState
}

// candidates returns the versions that may run, best first. A version runs if all before it are refused: the module
// that ran before is better than no plugin at all, and the decision is the same after a restart. A file that a node has
// never run is no alternative to a deployment.
func candidates(s nodeState, r *record, file string) (list []candidate) {
	add := func(c candidate) {
		for _, o := range list {
			if o.from == c.from && o.entry == c.entry {
				return
			}
		}
		list = append(list, c)
	}
	current := []*entry{r.last()}
	if s.Runs != "" && (r.last() == nil || r.last().ID != s.ID) {
		if applied := r.find(s.ID); applied != nil || s.ID == "" {
			current = append(current, applied)
		}
	}
	for _, e := range current {
		from, next := decide(s, e, file)
		if from == FromDeploy {
			add(candidate{from, e, next})
		} else {
			add(candidate{from, nil, next})
		}
		if e.live() && from == FromFile {
			add(candidate{FromDeploy, e, s})
		}
	}
	return list
}

// attempt identifies the check of a candidate, see [attemptOf].
func (c candidate) attempt(p *Plugin, samples []plugins.Sample, file string) string {
	if c.from == FromFile {
		return attemptOf(file, p, nil, samples)
	}
	if c.entry.Forced {
		samples = nil
	}
	return attemptOf(c.entry.Hash, p, c.entry.Settings, samples)
}

// is reports whether v is the candidate.
func (c candidate) is(v *version, file string) bool {
	switch {
	case v == nil || v.from != c.from:
		return false
	case c.from == FromFile:
		return v.hash == file
	}
	return v.entry.ID == c.entry.ID
}

// open loads the module and the settings of a candidate.
func (c candidate) open(ctx context.Context, s Store, p *Plugin, file fileContent) (*version, error) {
	var settings json.RawMessage
	if c.entry != nil {
		settings = c.entry.Settings
	}
	own, err := p.with(settings)
	if err != nil {
		return nil, err
	}
	m, at := file.signedModule, file.state.changed
	if c.from == FromDeploy {
		at = c.entry.At
		if m, err = s.loadVersion(ctx, p.Name, c.entry); err != nil {
			return nil, err
		}
	} else if file.err != nil {
		return nil, fmt.Errorf("plugin %s: read its module: %w", p.Name, file.err)
	}
	v, err := newVersion(c.from, m, at, c.entry, p, own)
	if err != nil {
		return nil, err
	}
	v.next = c.next
	return v, nil
}
