package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/plugins"
)

// maxModule is the longest module that is taken, in bytes; the host allows no more.
const maxModule = 16 << 20

// pluginStatus is a plugin as GET /edgerelay/plugins shows it.
type pluginStatus struct {
	plugins.Health
	// File is the file of the configuration; From says whether the running module is from there ("file") or was deployed ("deploy"),
	// and At since when it is that.
	File string    `json:"file"`
	From string    `json:"from"`
	At   time.Time `json:"at"`
	// Previous is the hash of the module that a rollback deploys.
	Previous string `json:"previous,omitempty"`
	// Refused says why a newer module was not taken.
	Refused string `json:"refused,omitempty"`
}

// status lists the plugins in their order.
func (h *pluginHost) status() []pluginStatus {
	healths := h.pipeline.Health()
	h.shown.Lock()
	defer h.shown.Unlock()
	list := []pluginStatus{}
	for _, health := range healths {
		s := pluginStatus{Health: health}
		if p := h.find(health.Name); p != nil {
			s.File, s.From, s.At = p.Plugin.file, p.version.from, p.version.at
			if p.previous != nil {
				s.Previous = plugins.Hash(p.previous)
			}
			if p.refused.err != nil {
				s.Refused = p.refused.err.Error()
			}
		}
		list = append(list, s)
	}
	return list
}

func (n *node) servePlugins(w http.ResponseWriter, _ *http.Request) error {
	list := []pluginStatus{}
	if h := n.plugins.Load(); h != nil {
		list = h.status()
	}
	return writeJSON(w, list)
}

func (n *node) serveDeploy(w http.ResponseWriter, r *http.Request) error {
	h, err := n.pluginHost(r)
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
	if err := h.deploy(r.Context(), r.PathValue("name"), wasm); err != nil {
		return pluginError(err)
	}
	return h.answer(w, r)
}

func (n *node) serveRollback(w http.ResponseWriter, r *http.Request) error {
	h, err := n.pluginHost(r)
	if err != nil {
		return err
	}
	if err := h.rollback(r.Context(), r.PathValue("name")); err != nil {
		return pluginError(err)
	}
	return h.answer(w, r)
}

func (n *node) servePluginLogs(w http.ResponseWriter, r *http.Request) error {
	h, err := n.pluginHost(r)
	if err != nil {
		return err
	}
	lines, err := h.pipeline.Logs(r.PathValue("name"))
	if err != nil {
		return pluginError(err)
	}
	return writeJSON(w, lines)
}

// pluginHost returns the host of the plugins, or the error that there is none.
func (n *node) pluginHost(r *http.Request) (*pluginHost, error) {
	if h := n.plugins.Load(); h != nil {
		return h, nil
	}
	return nil, pluginError(fmt.Errorf("%q: %w", r.PathValue("name"), errNoPlugin))
}

// answer shows the plugin that a request is about.
func (h *pluginHost) answer(w http.ResponseWriter, r *http.Request) error {
	for _, s := range h.status() {
		if s.Name == r.PathValue("name") {
			return writeJSON(w, s)
		}
	}
	return pluginError(errNoPlugin)
}

// fullDisk tells whether there was no room for something.
func fullDisk(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

func pluginError(err error) error {
	code := http.StatusUnprocessableEntity
	var storage *fs.PathError
	switch {
	case errors.Is(err, errNoPlugin), errors.Is(err, fs.ErrNotExist):
		code = http.StatusNotFound
	case errors.Is(err, errNoPrevious):
		code = http.StatusConflict
	case fullDisk(err):
		code = http.StatusInsufficientStorage
	case errors.As(err, &storage):
		code = http.StatusInternalServerError
	}
	return caddy.APIError{HTTPStatus: code, Err: err}
}

func writeJSON(w http.ResponseWriter, v any) error {
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
func (n *node) pluginTroubles() (list []pluginTrouble) {
	h := n.plugins.Load()
	if h == nil {
		return nil
	}
	for _, s := range h.status() {
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
