package pluginhost

import (
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
		s := Status{Health: health}
		if p := h.find(health.Name); p != nil {
			s.File, s.From, s.At = p.Plugin.path, p.module.from, p.module.at
			if p.previous != nil {
				s.Previous = plugins.Hash(p.previous)
			}
			if p.rejected.err != nil {
				s.Refused = p.rejected.err.Error()
			}
		}
		list = append(list, s)
	}
	return list
}
