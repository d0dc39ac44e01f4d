package pluginhost

import "slices"

// Source is the origin of a module that runs on a node.
type Source string

// Sources.
const (
	FromFile   Source = "file"
	FromDeploy Source = "deploy"
)

// nodeState is the basis of a node's last decision between file and deployment. The zero value is the state of a node
// that has never decided, such as a new container.
type nodeState struct {
	// ID and Version identify the last version of the deployment that this node has applied; ID is empty if there was
	// none.
	ID      string `json:"id,omitempty"`
	Version uint64 `json:"version,omitempty"`
	// File is the hash of the file at that time, or of the file that has taken over since; empty if it was missing.
	File string `json:"file,omitempty"`
	// Runs is the decision.
	Runs Source `json:"runs,omitempty"`
}

// decide decides whether the file or the deployment runs. current is the version of the deployment that applies, nil if
// there is none. file is the hash of the node's file, empty if it is missing. The returned state is that after the
// decision has been carried out.
//
// A deployment concerns every node and a file concerns its own, so the later of the two acts runs: a version that the
// node has not applied yet, or a file whose content has changed since. Neither clocks nor modification times matter, so
// that a node decides alike before and after a restart.
// See docs/decisions/plugins.md#why-does-a-file-take-over-only-when-its-content-changes
func decide(s nodeState, current *entry, file string) (Source, nodeState) {
	if current == nil && s.ID != "" { // the storage was lost; the state stays, in case that the record comes back
		return FromFile, s
	}
	next := nodeState{File: file, Runs: FromFile}
	if current != nil {
		next.ID, next.Version = current.ID, current.Version
	}
	switch {
	case !current.live():
	case s.Runs != "" && s.ID == current.ID && file == "": // the file is about to be replaced
		return FromDeploy, s
	case s.Runs != "" && s.ID == current.ID && file == s.File:
		next.Runs = s.Runs
	case s.Runs != "" && s.ID == current.ID: // the file has changed, unless it was missing when the version was applied
		if s.File == "" && slices.Contains(current.Files, file) {
			next.Runs = FromDeploy
		}
	case s.Runs != "": // a version that this node has not applied
		next.Runs = FromDeploy
	case file == "" || len(current.Files) == 0 || slices.Contains(current.Files, file):
		next.Runs = FromDeploy
	}
	return next.Runs, next
}
