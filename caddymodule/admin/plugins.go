package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

// maxModule is the longest module that is taken, in bytes; the host allows no more.
const maxModule = 16 << 20

func servePlugins(n *node.Node, w http.ResponseWriter, _ *http.Request) error {
	list := []pluginhost.Status{}
	if h := n.Plugins.Load(); h != nil {
		list = h.Status()
	}
	return WriteJSON(w, list)
}

func serveDeploy(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	wasm, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxModule))
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf("read the module: %w", err)}
	}
	if err := h.Deploy(r.Context(), r.PathValue("name"), wasm); err != nil {
		return pluginError(err)
	}
	return answerPlugin(h, w, r)
}

func serveRollback(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	if err := h.Rollback(r.Context(), r.PathValue("name")); err != nil {
		return pluginError(err)
	}
	return answerPlugin(h, w, r)
}

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

// pluginHost returns the host of the plugins, or the error that there is none.
func pluginHostOf(n *node.Node, r *http.Request) (*pluginhost.Host, error) {
	if h := n.Plugins.Load(); h != nil {
		return h, nil
	}
	return nil, pluginError(fmt.Errorf("%q: %w", r.PathValue("name"), pluginhost.ErrUnknownPlugin))
}

// answerPlugin shows the plugin that a request is about.
func answerPlugin(h *pluginhost.Host, w http.ResponseWriter, r *http.Request) error {
	for _, s := range h.Status() {
		if s.Name == r.PathValue("name") {
			return WriteJSON(w, s)
		}
	}
	return pluginError(pluginhost.ErrUnknownPlugin)
}

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

func WriteJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// pluginTrouble is a plugin that does not do its work, as the health endpoint shows it.
type pluginTrouble struct {
	Name string `json:"name"`
	// Breaker is open while calls are suspended for some groups, half-open while each of them waits for a trial call.
	Breaker string `json:"breaker,omitempty"`
	// LastError is its last failure; Refused says why a newer module was not taken.
	LastError string `json:"last_error,omitempty"`
	Refused   string `json:"refused,omitempty"`
}

// pluginTroubles lists the plugins with an open circuit breaker, and those with a newer module that was refused.
func pluginTroubles(n *node.Node) (list []pluginTrouble) {
	h := n.Plugins.Load()
	if h == nil {
		return nil
	}
	for _, s := range h.Status() {
		t := pluginTrouble{Name: s.Name, Refused: s.Refused}
		if s.Breaker != "closed" {
			t.Breaker, t.LastError = s.Breaker, s.LastError
		}
		if t.Breaker != "" || t.Refused != "" {
			list = append(list, t)
		}
	}
	return list
}
