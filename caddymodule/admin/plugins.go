package admin

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

// maxModuleBytes is the longest module that the plugin host accepts.
const maxModuleBytes = 16 << 20

// servePlugins lists the plugins in the order of the pipeline.
func servePlugins(n *node.Node, w http.ResponseWriter, _ *http.Request) error {
	list := []pluginhost.Status{}
	if h := n.Plugins.Load(); h != nil {
		list = h.Status()
	}
	return WriteJSON(w, list)
}

// serveDeploy deploys the body as the module of a plugin.
func serveDeploy(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	wasm, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxModuleBytes))
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf("reading the module: %w", err)}
	}
	if err := h.Deploy(r.Context(), r.PathValue("name"), wasm); err != nil {
		return pluginError(err)
	}
	return writePlugin(h, w, r)
}

// serveRollback deploys the previous module of a plugin.
func serveRollback(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	if err := h.Rollback(r.Context(), r.PathValue("name")); err != nil {
		return pluginError(err)
	}
	return writePlugin(h, w, r)
}

// servePluginLogs lists recent log lines of a plugin.
func servePluginLogs(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	lines, err := h.Pipeline.Logs(r.PathValue("name"))
	if err != nil {
		return pluginError(err)
	}
	return WriteJSON(w, lines)
}

// pluginHostOf returns the plugin host, or a 404 if no plugin is configured.
func pluginHostOf(n *node.Node, r *http.Request) (*pluginhost.Host, error) {
	if h := n.Plugins.Load(); h != nil {
		return h, nil
	}
	return nil, pluginError(fmt.Errorf("%q: %w", r.PathValue("name"), pluginhost.ErrUnknownPlugin))
}

// writePlugin writes the status of the plugin that the request names.
func writePlugin(h *pluginhost.Host, w http.ResponseWriter, r *http.Request) error {
	for _, s := range h.Status() {
		if s.Name == r.PathValue("name") {
			return WriteJSON(w, s)
		}
	}
	return pluginError(pluginhost.ErrUnknownPlugin)
}

// pluginError chooses the HTTP status of an error.
func pluginError(err error) error {
	code := http.StatusUnprocessableEntity
	var storage *fs.PathError
	switch {
	case errors.Is(err, pluginhost.ErrUnknownPlugin), errors.Is(err, fs.ErrNotExist):
		code = http.StatusNotFound
	case errors.Is(err, pluginhost.ErrNoPrevious):
		code = http.StatusConflict
	case pluginhost.IsDiskFull(err):
		code = http.StatusInsufficientStorage
	case errors.As(err, &storage):
		code = http.StatusInternalServerError
	}
	return caddy.APIError{HTTPStatus: code, Err: err}
}

// UnhealthyPlugin is a plugin with an open circuit breaker, or with a rejected update.
type UnhealthyPlugin struct {
	Name string `json:"name"`
	// Breaker is open while calls are suspended for a group, half-open while each suspended group waits for a trial
	// call.
	Breaker string `json:"breaker,omitempty"`
	// LastError is the error of the last failed call.
	LastError string `json:"last_error,omitempty"`
	// Refused is the reason for the rejection of a newer module.
	Refused string `json:"refused,omitempty"`
}

// unhealthyPlugins lists the unhealthy plugins.
func unhealthyPlugins(n *node.Node) (list []UnhealthyPlugin) {
	h := n.Plugins.Load()
	if h == nil {
		return nil
	}
	for _, s := range h.Status() {
		t := UnhealthyPlugin{Name: s.Name, Refused: s.Refused}
		if s.Breaker != "closed" {
			t.Breaker, t.LastError = s.Breaker, s.LastError
		}
		if t.Breaker != "" || t.Refused != "" {
			list = append(list, t)
		}
	}
	return list
}
