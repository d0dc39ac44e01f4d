package pluginhost

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/edgerelay/edgerelay/internal/lanes"
	"github.com/edgerelay/edgerelay/plugins"
)

// Status is a plugin as GET /edgerelay/plugins shows it.
type Status struct {
	plugins.Health
	// Queue is the state of the events that wait for the plugin.
	lanes.Queue
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
	// Ref is the reference in a registry that the running module came from.
	Ref string `json:"ref,omitempty"`
	// SignedBy is the name of the key that signed the running module; empty without keys in the configuration.
	SignedBy string `json:"signed_by,omitempty"`
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
	// Canary is the plugin's last canary.
	Canary *CanaryStatus `json:"canary,omitempty"`
	// Refused is the reason why a newer module, its samples or its secrets were rejected.
	Refused string `json:"refused,omitempty"`
}

// Status returns the state of all plugins, in the order of the pipeline.
func (h *Host) Status() []Status {
	healths, queues := h.Pipeline.Health(), h.Lanes.Queues()
	h.publishedMu.Lock()
	defer h.publishedMu.Unlock()
	list := []Status{}
	for _, health := range healths {
		s := Status{Health: health, Queue: queues[health.Name], Grants: []string{}}
		if p := h.find(health.Name); p != nil {
			s.describe(p)
		}
		list = append(list, s)
	}
	return list
}

// Rejected returns the names of the plugins that go on as they were because a newer version was rejected.
func (h *Host) Rejected() map[string]bool {
	h.publishedMu.Lock()
	defer h.publishedMu.Unlock()
	rejected := map[string]bool{}
	for _, p := range h.running {
		if p.rejected.err != nil {
			rejected[p.Name] = true
		}
	}
	return rejected
}

const (
	// slowAfter is how long an event may wait for a plugin that is not slow.
	slowAfter = time.Second
	// slowMemory is how long a plugin counts as slow after an event was dropped.
	slowMemory = time.Minute
)

// Slow tells how the plugin falls behind now: how long its oldest event has waited, or when events were dropped. It is
// empty for a plugin that keeps up.
func (s *Status) Slow(now time.Time) string {
	waited := time.Duration(s.OldestSeconds * float64(time.Second))
	switch ago := now.Sub(s.LastDroppedSlow); {
	case waited >= slowAfter:
		return fmt.Sprintf("the oldest of %d events has waited %v", s.Queued, waited.Round(100*time.Millisecond))
	case !s.LastDroppedSlow.IsZero() && ago < slowMemory:
		return fmt.Sprintf("events were dropped %v ago", ago.Round(time.Second))
	}
	return ""
}

func (s *Status) describe(p *runningPlugin) {
	v := p.module
	s.File, s.From, s.At, s.Version = p.Plugin.path, string(v.from), v.at, v.number()
	s.SignedBy = v.signedBy
	if ref := p.Plugin.ref; ref != nil {
		if s.File = ref.String(); v.from == FromFile {
			s.Ref = s.File
		}
	}
	s.Grants = append(s.Grants, v.plugin.Grants...)
	if v.manifest != nil {
		s.Module, s.ModuleVersion = v.manifest.Name, v.manifest.Version
	}
	if e := v.entry; e != nil {
		s.By, s.Message, s.Forced, s.Ref = e.By, e.Message, e.Forced, e.Ref
		s.Settings, s.HasConfig = visibleSettings(e.Settings)
	}
	switch e, file := p.beforeNow(p.record); {
	case e != nil:
		s.Previous = e.Hash
	case file != nil:
		s.Previous = file.hash
	}
	if p.record != nil && p.record.Canary != nil {
		s.Canary = p.record.Canary.status(s.Health.Canary)
	}
	if p.rejected.err != nil {
		s.Refused = p.rejected.err.Error()
	}
}
