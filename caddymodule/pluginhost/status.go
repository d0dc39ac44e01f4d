package pluginhost

import (
	"encoding/json"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// Status is a plugin as GET /edgerelay/plugins shows it.
type Status struct {
	plugins.Health
	// File is the configured file.
	File string `json:"file"`
	// From is the origin of the running module: "file" or "deploy".
	From string `json:"from"`
	// At is the time of the file's change or of the deployment.
	At time.Time `json:"at"`
	// Version is the number of the deployment that runs; 0 for a file.
	Version uint64 `json:"version,omitempty"`
	// By and Message tell who deployed the running module and why.
	By      string `json:"by,omitempty"`
	Message string `json:"message,omitempty"`
	// Forced tells that the running module was not tried on the samples.
	Forced bool `json:"forced,omitempty"`
	// Module and ModuleVersion are name and version in the manifest of the running module.
	Module        string `json:"module,omitempty"`
	ModuleVersion string `json:"module_version,omitempty"`
	// Grants are the capabilities of the plugin.
	Grants []string `json:"grants"`
	// Settings are the settings that the deployment overrides. The configuration is left out; HasConfig tells that the
	// deployment has one.
	Settings  map[string]json.RawMessage `json:"settings,omitempty"`
	HasConfig bool                       `json:"has_config,omitempty"`
	// Previous is the hash of the module that a rollback deploys.
	Previous string `json:"previous,omitempty"`
	// Refused is the reason why a newer module was rejected.
	Refused string `json:"refused,omitempty"`
}

// Status returns the state of all plugins, in the order of the pipeline.
func (h *Host) Status() []Status {
	healths := h.Pipeline.Health()
	h.publishedMu.Lock()
	defer h.publishedMu.Unlock()
	list := []Status{}
	for _, health := range healths {
		s := Status{Health: health, Grants: []string{}}
		if p := h.find(health.Name); p != nil {
			s.describe(p)
		}
		list = append(list, s)
	}
	return list
}

func (s *Status) describe(p *runningPlugin) {
	v := p.module
	s.File, s.From, s.At, s.Version = p.Plugin.path, string(v.from), v.at, v.number()
	s.Grants = append(s.Grants, v.plugin.Grants...)
	if v.manifest != nil {
		s.Module, s.ModuleVersion = v.manifest.Name, v.manifest.Version
	}
	if e := v.entry; e != nil {
		s.By, s.Message, s.Forced = e.By, e.Message, e.Forced
		s.Settings, s.HasConfig = visibleSettings(e.Settings)
	}
	switch e, wasm := p.beforeNow(p.record); {
	case e != nil:
		s.Previous = e.Hash
	case wasm != nil:
		s.Previous = plugins.Hash(wasm)
	}
	if p.rejected.err != nil {
		s.Refused = p.rejected.err.Error()
	}
}
