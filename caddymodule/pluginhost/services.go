package pluginhost

import "github.com/edgerelay/edgerelay/plugins"

// UseServices changes the services that plugins' requests go to.
func (h *Host) UseServices(change func(*plugins.Services)) {
	h.servicesMu.Lock()
	defer h.servicesMu.Unlock()
	next := plugins.Services{}
	if old := h.services.Load(); old != nil {
		next = *old
	}
	change(&next)
	h.services.Store(&next)
	h.Pipeline.SetServices(next)
}
