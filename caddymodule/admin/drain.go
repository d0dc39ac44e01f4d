package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// serveDrain handles /edgerelay/drain: POST starts a drain, GET returns the progress, DELETE cancels the drain. Each
// response is the status of the drain.
func serveDrain(w http.ResponseWriter, r *http.Request) error {
	answer := func(f func(n *node.Node, r *http.Request) (int, error)) caddy.AdminHandlerFunc {
		return withNode(r.Method, func(n *node.Node, w http.ResponseWriter, r *http.Request) error {
			code, err := f(n, r)
			if err != nil {
				return caddy.APIError{HTTPStatus: code, Err: err}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			return json.NewEncoder(w).Encode(DrainStatus(n.Hub.DrainStatus()))
		})
	}
	switch r.Method {
	case http.MethodGet:
		return answer(func(*node.Node, *http.Request) (int, error) { return http.StatusOK, nil })(w, r)
	case http.MethodPost:
		return answer(readDrain)(w, r)
	case http.MethodDelete:
		return answer(func(n *node.Node, _ *http.Request) (int, error) { return CancelDrain(n) })(w, r)
	}
	w.Header().Set("Allow", "GET, POST, DELETE")
	return caddy.APIError{
		HTTPStatus: http.StatusMethodNotAllowed,
		Err:        errors.New("use POST to start a drain, GET for its progress, DELETE to cancel it"),
	}
}

// maxDrainBody is the longest body of a drain request in bytes.
const maxDrainBody = 4 << 10

// readDrain starts a drain at the pace of the body. With an error comes the HTTP status.
func readDrain(n *node.Node, r *http.Request) (int, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxDrainBody))
	if err != nil {
		return http.StatusBadRequest, err
	}
	var d node.Drain
	if len(body) > 0 {
		if err := caddy.StrictUnmarshalJSON(body, &d); err != nil {
			err = fmt.Errorf(`invalid body; leave it empty or use {"duration": "30s", "rate": 500}: %w`, err)
			return http.StatusBadRequest, err
		}
	}
	return StartDrain(n, d)
}

// StartDrain starts a drain at a pace. Without one, the configured pace applies. With an error comes the HTTP status.
func StartDrain(n *node.Node, d node.Drain) (int, error) {
	pace := n.DrainPace.Load()
	if pace == nil {
		pace = &hub.Pace{Duration: node.DefaultDrainDuration}
	}
	p, err := d.Pace()
	if err != nil {
		return http.StatusBadRequest, err
	}
	if d.Duration != nil || d.Rate != 0 {
		pace = &p
	}
	n.Hub.Drain(*pace)
	s := n.Hub.DrainStatus()
	n.Log.Info("drain started", "count", s.Open, "duration", time.Until(s.Ends).Round(time.Second))
	return http.StatusAccepted, nil
}

// CancelDrain cancels the drain, so that the node accepts clients again. With an error comes the HTTP status.
func CancelDrain(n *node.Node) (int, error) {
	if !n.Hub.Undrain() {
		return http.StatusConflict, errors.New("no drain to cancel")
	}
	n.Log.Info("drain canceled", "count", n.Hub.Stats().Sessions)
	return http.StatusOK, nil
}
