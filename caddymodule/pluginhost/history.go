package pluginhost

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// HistoryEntry is a version of a plugin's deployment as GET /edgerelay/plugins/<name>/history shows it.
type HistoryEntry struct {
	// Version numbers the changes of a plugin.
	Version uint64 `json:"version"`
	// Hash identifies the module. Of an undeployment, it is the file of the node that made the change.
	Hash string `json:"hash"`
	Size int    `json:"size"`
	// Module and ModuleVersion are name and version in the module's manifest.
	Module        string    `json:"module,omitempty"`
	ModuleVersion string    `json:"module_version,omitempty"`
	At            time.Time `json:"at,omitzero"`
	By            string    `json:"by,omitempty"`
	Message       string    `json:"message,omitempty"`
	Origin        Origin    `json:"origin"`
	// Of is the version that a rollback repeats.
	Of uint64 `json:"of,omitempty"`
	// Forced tells that the samples were skipped.
	Forced bool `json:"forced,omitempty"`
	// Ref is the reference in a registry that the module came from.
	Ref string `json:"ref,omitempty"`
	// Signatures is the number of signatures that came with the module. They are checked when the module is loaded.
	Signatures int `json:"signatures,omitempty"`
	// Settings are the settings that travel with the module. The configuration is left out; HasConfig tells that there
	// is one.
	Settings  map[string]json.RawMessage `json:"settings,omitempty"`
	HasConfig bool                       `json:"has_config,omitempty"`
	// Current tells that this version applies. A node whose file has changed since runs the file.
	Current bool `json:"current,omitempty"`
	// Running tells that this node runs this version.
	Running bool `json:"running,omitempty"`
	// Available tells that a rollback can return to this version.
	Available bool `json:"available"`
}

// History returns the versions of a plugin's deployment, newest first.
func (h *Host) History(ctx context.Context, name string) ([]HistoryEntry, error) {
	p, store, ok := h.lookUp(name)
	if !ok {
		return nil, fmt.Errorf("%q: %w", name, ErrUnknownPlugin)
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	r, err := store.load(ctx, name)
	if err != nil {
		return nil, err
	}
	list := []HistoryEntry{}
	if r == nil {
		return list, nil
	}
	kept, err := store.kept(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: list the modules in the storage: %w", name, err)
	}
	for _, e := range slices.Backward(r.History) {
		out := HistoryEntry{
			Version: e.Version, Hash: e.Hash, Size: e.Size, Module: e.Module, ModuleVersion: e.ModuleVersion, At: e.At,
			By: e.By, Message: e.Message, Origin: e.Origin, Of: e.Of, Forced: e.Forced, Current: e == r.last(),
			Available: e.Undeployed || kept[e.Hash], Ref: e.Ref, Signatures: len(e.Signatures),
		}
		running := p.module.entry
		out.Running = running != nil && running.ID == e.ID
		out.Settings, out.HasConfig = visibleSettings(e.Settings)
		list = append(list, out)
	}
	return list, nil
}
