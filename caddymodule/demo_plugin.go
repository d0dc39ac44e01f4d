package caddymodule

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/caddymodule/reject"
)

// demoPlugin is a configured plugin, as the demo page shows it.
type demoPlugin struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
	On     bool     `json:"on"`
}

// demoAbout is the response to GET /demo/about and to POST /demo/plugin.
type demoAbout struct {
	Version string `json:"version"`
	// Publish is a shell command that publishes an event.
	Publish string `json:"publish"`
	// Console is the path of the console of this server; empty if there is none.
	Console string       `json:"console,omitempty"`
	Plugins []demoPlugin `json:"plugins"`
}

func (h *DemoHandler) about() demoAbout {
	about := demoAbout{
		Version: node.Version().Relay, Publish: h.publishCommand(), Console: consolePath(h.server), Plugins: []demoPlugin{},
	}
	running := h.runningPlugins()
	for _, p := range h.app.Plugins {
		about.Plugins = append(about.Plugins, demoPlugin{p.Name, p.Groups, slices.Contains(running, p.Name)})
	}
	return about
}

// runningPlugins returns the names of the plugins that run now.
func (h *DemoHandler) runningPlugins() (names []string) {
	if host := h.app.node.Plugins.Load(); host != nil {
		for _, s := range host.Status() {
			names = append(names, s.Name)
		}
	}
	return names
}

// maxSwitchBytes is the longest body of POST /demo/plugin.
const maxSwitchBytes = 4096

// switchPlugin runs a configured plugin, or stops it, until the next configuration. It is as safe as publishing: with
// `auth none` every client sees every event anyway.
func (h *DemoHandler) switchPlugin(w http.ResponseWriter, r *http.Request) error {
	if !h.allowsPage(w, r) {
		return nil
	}
	var wanted struct {
		Name string `json:"name"`
		On   bool   `json:"on"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSwitchBytes)).Decode(&wanted); err != nil {
		reject.Respond(w, r, http.StatusBadRequest, "plugin", `invalid body; use {"name": "…", "on": true}`)
		return nil
	}
	running, list, known := h.runningPlugins(), []*pluginhost.Plugin{}, false
	for _, p := range h.app.Plugins {
		on := slices.Contains(running, p.Name)
		if p.Name == wanted.Name {
			known, on = true, wanted.On
		}
		if on {
			list = append(list, p)
		}
	}
	if !known {
		reject.Respond(w, r, http.StatusNotFound, "plugin", "no such plugin in the configuration")
		return nil
	}
	if err := h.app.node.RunPlugins(r.Context(), h.app.config, list); err != nil {
		reject.Respond(w, r, http.StatusConflict, "plugin", err.Error())
		return nil
	}
	return admin.WriteJSON(w, h.about())
}
