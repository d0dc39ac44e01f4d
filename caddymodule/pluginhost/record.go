package pluginhost

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// Origin is the kind of a change in a plugin's history.
type Origin string

// Origins.
const (
	OriginDeploy   Origin = "deploy"
	OriginRollback Origin = "rollback"
	OriginUndeploy Origin = "undeploy"
	// OriginFile marks a node's file that ran before a deployment replaced it.
	OriginFile Origin = "file"
)

const (
	// historyLength is the number of versions that a record keeps.
	historyLength = 10
	// maxFilesRecorded bounds the number of files that a version remembers.
	maxFilesRecorded = 32
)

// entry is a version of a plugin's deployment.
type entry struct {
	// Version numbers the changes of a plugin. It never goes back.
	Version uint64 `json:"version"`
	// ID tells versions with the same number apart, after the storage was lost.
	ID string `json:"id"`
	// Hash identifies the module. Of an undeployment, it is the file on the node that made the change.
	Hash string `json:"hash"`
	// Undeployed tells that each node runs its own file.
	Undeployed bool      `json:"undeployed,omitempty"`
	At         time.Time `json:"at,omitzero"`
	By         string    `json:"by,omitempty"`
	Message    string    `json:"message,omitempty"`
	Origin     Origin    `json:"origin"`
	// Of is the version that a rollback repeats.
	Of uint64 `json:"of,omitempty"`
	// Forced tells that nodes do not try the samples on this version.
	Forced bool `json:"forced,omitempty"`
	// Size, Module and ModuleVersion describe the module; the latter two come from its manifest.
	Size          int    `json:"size,omitempty"`
	Module        string `json:"module,omitempty"`
	ModuleVersion string `json:"module_version,omitempty"`
	// Ref is the reference in a registry that the module came from, with its digest, as the author of the change says.
	Ref string `json:"ref,omitempty"`
	// Signatures are those that came with the module, for nodes whose configuration has keys.
	Signatures []artifact.Signature `json:"signatures,omitempty"`
	// Settings override settings of each node's plugin, see [Plugin.with].
	Settings json.RawMessage `json:"settings,omitempty"`
	// Files are the hashes of the files that nodes had when they applied this version.
	Files []string `json:"files,omitempty"`

	rest unknown
}

// live reports whether the version names a module to run.
func (e *entry) live() bool { return e != nil && !e.Undeployed }

// sameContent reports whether two versions run the same.
func (e *entry) sameContent(o *entry) bool {
	if e.Undeployed || o.Undeployed {
		return e.Undeployed == o.Undeployed
	}
	return e.Hash == o.Hash && string(e.Settings) == string(o.Settings)
}

// record is the history of a plugin's deployments, for all nodes that share a storage. The last version applies.
type record struct {
	// History is in the order of versions.
	History []*entry `json:"history"`
	// Canary is the last canary, nil if there was none. Versions of edgerelay without canaries drop it,
	// which ends the canary.
	Canary *canaryRecord `json:"canary,omitempty"`

	// Hash, Previous and At are the record of earlier versions of edgerelay, for nodes that still run one.
	Hash     string    `json:"hash"`
	Previous string    `json:"previous,omitempty"`
	At       time.Time `json:"at"`

	rest unknown
}

// parseRecord reads a record of this or of an earlier version of edgerelay.
func parseRecord(b []byte) (*record, error) {
	r := &record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, err
	}
	if slices.Contains(r.History, nil) {
		return nil, errors.New("an empty version")
	}
	if r.Canary != nil && r.Canary.Candidate == nil {
		return nil, errors.New("a canary without a candidate")
	}
	if len(r.History) > 0 || r.Canary != nil {
		return r, nil
	}
	if r.Hash == "" {
		return nil, errors.New("no module")
	}
	out := &record{rest: r.rest}
	if r.Previous != "" {
		out.add(&entry{ID: "unversioned-" + r.Previous, Hash: r.Previous, Origin: OriginDeploy})
	}
	id := fmt.Sprintf("unversioned-%s-%d", r.Hash, r.At.UnixNano())
	out.add(&entry{ID: id, Hash: r.Hash, At: r.At, Origin: OriginDeploy})
	return out, nil
}

// last returns the version that applies, nil if there is none.
func (r *record) last() *entry {
	if r == nil || len(r.History) == 0 {
		return nil
	}
	return r.History[len(r.History)-1]
}

// find returns the version with an ID, or nil.
func (r *record) find(id string) *entry {
	if r == nil {
		return nil
	}
	for _, e := range r.History {
		if e.ID == id {
			return e
		}
	}
	return nil
}

// add appends a version after the last one, or after the version least if that is higher. A repeated deployment
// replaces the last version, so that it does not push out versions to return to.
func (r *record) add(e *entry) { r.addAfter(e, 0) }

func (r *record) addAfter(e *entry, least uint64) {
	last := r.last()
	if last != nil {
		least = max(least, last.Version)
		if !e.At.IsZero() && !e.At.After(last.At) { // the clock of another node may be ahead
			e.At = last.At.Add(1)
		}
		if e.Origin == OriginDeploy && last.sameContent(e) {
			r.History = r.History[:len(r.History)-1]
		}
	}
	e.Version = least + 1
	r.History = append(r.History, e)
	if n := len(r.History) - historyLength; n > 0 {
		r.History = slices.Delete(r.History, 0, n)
	}
	r.Hash, r.At, r.Previous = e.Hash, e.At, ""
	if before := r.before(e); before != nil {
		r.Previous = before.Hash
	}
}

// before returns the last version before e with other content, nil if there is none.
func (r *record) before(e *entry) *entry {
	at := slices.Index(r.History, e)
	for i := at - 1; i >= 0; i-- {
		if !r.History[i].sameContent(e) {
			return r.History[i]
		}
	}
	return nil
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
