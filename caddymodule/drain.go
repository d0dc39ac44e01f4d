package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/units"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// drainDefault is the pace of a drain that is asked for without saying one.
const drainDefault = 30 * time.Second

// Drain says how fast clients are sent to other nodes when this one stops, and when the admin API asks for it. Where it is
// not configured, clients are told at once when the relay stops.
type Drain struct {
	// Duration is the time over which goodbyes are spread evenly. Default: 30s, or as long as Rate needs.
	Duration *caddy.Duration `json:"duration,omitempty"`
	// Rate is how many clients may be sent away in a second; where it needs more time than Duration, it prevails. Default: any number.
	Rate float64 `json:"rate,omitempty"`
}

// pace returns the pace that d means.
func (d *Drain) pace() (hub.Pace, error) {
	switch {
	case d == nil:
		return hub.Pace{Duration: drainDefault}, nil
	case !(d.Rate >= 0 && d.Rate <= math.MaxInt32):
		return hub.Pace{}, errors.New("drain: rate is a number of clients a second, or 0 for any number")
	case d.Duration != nil && (*d.Duration < 0 || time.Duration(*d.Duration) > 24*time.Hour):
		return hub.Pace{}, errors.New("drain: duration is between 0s and 24h")
	}
	p := hub.Pace{Rate: d.Rate}
	if d.Duration != nil {
		p.Duration = time.Duration(*d.Duration)
	} else if d.Rate == 0 {
		p.Duration = drainDefault
	}
	return p, nil
}

// unmarshal reads
//
//	drain [<duration>] {
//		duration <duration>
//		rate <clients a second>
//	}
func (d *Drain) unmarshal(from *caddyfile.Dispenser) error {
	take := func(value string) error {
		t, err := units.Duration(value)
		d.Duration = &t
		return err
	}
	if from.NextArg() {
		if err := take(from.Val()); err != nil {
			return from.Errf("drain %s: %v", from.Val(), err)
		}
		if from.NextArg() {
			return from.ArgErr()
		}
	}
	for from.NextBlock(1) {
		name := from.Val()
		var value string
		if !from.AllArgs(&value) {
			return from.Errf("drain: %s takes one value", name)
		}
		var err error
		switch name {
		case "duration":
			err = take(value)
		case "rate":
			if d.Rate, err = strconv.ParseFloat(value, 64); err == nil && !(d.Rate >= 0 && d.Rate <= math.MaxInt32) { // JSON knows neither NaN nor infinity
				err = errors.New("it is a number of clients a second")
			}
		default:
			return from.Errf("drain has no setting %q; it has duration and rate", name)
		}
		if err != nil {
			return from.Errf("drain: %s %s: %v", name, value, err)
		}
	}
	return nil
}

// drainForStop sends clients away at the configured pace because the node is about to end. Without one it does nothing.
func (n *node) drainForStop() {
	pace := n.stopPace.Load()
	if pace == nil {
		return
	}
	p := *pace
	if s := n.hub.DrainStatus(); s.State == "draining" { // never slower than it has begun
		p = hub.Pace{Duration: min(time.Until(s.Ends), p.Over(s.Clients-s.Told))}
	}
	n.hub.Drain(p)
	s := n.hub.DrainStatus()
	if s.Open > 0 {
		n.log.Info("clients are sent to other nodes before the relay stops", "count", s.Open, "over", time.Until(s.Ends).Round(time.Second))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Until(s.Ends)+closeWait)
	defer cancel()
	_ = n.hub.Drained(ctx) // who is still there then is cut off
}

// serveDrain answers /edgerelay/drain: POST begins a drain, GET tells how far it is, DELETE cancels it.
func serveDrain(w http.ResponseWriter, r *http.Request) error {
	answer := func(f func(n *node, r *http.Request) (int, error)) caddy.AdminHandlerFunc {
		return withNode(r.Method, func(n *node, w http.ResponseWriter, r *http.Request) error {
			code, err := f(n, r)
			if err != nil {
				return caddy.APIError{HTTPStatus: code, Err: err}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			return json.NewEncoder(w).Encode(n.hub.DrainStatus())
		})
	}
	switch r.Method {
	case http.MethodGet:
		return answer(func(*node, *http.Request) (int, error) { return http.StatusOK, nil })(w, r)
	case http.MethodPost:
		return answer((*node).beginDrain)(w, r)
	case http.MethodDelete:
		return answer((*node).cancelDrain)(w, r)
	}
	w.Header().Set("Allow", "GET, POST, DELETE")
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("use POST to begin a drain, GET to see how far it is, DELETE to cancel it")}
}

// maxDrainBody is the longest body of a drain request in bytes.
const maxDrainBody = 4 << 10

// beginDrain begins a drain at the pace that the body asks for, else at the configured one.
func (n *node) beginDrain(r *http.Request) (int, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxDrainBody))
	if err != nil {
		return http.StatusBadRequest, err
	}
	pace := n.stopPace.Load()
	if pace == nil {
		pace = &hub.Pace{Duration: drainDefault}
	}
	if len(body) > 0 {
		var d Drain
		if err := caddy.StrictUnmarshalJSON(body, &d); err != nil {
			return http.StatusBadRequest, fmt.Errorf(`the body must be empty or like {"duration": "30s", "rate": 500}: %w`, err)
		}
		p, err := d.pace()
		if err != nil {
			return http.StatusBadRequest, err
		}
		if d.Duration != nil || d.Rate != 0 {
			pace = &p
		}
	}
	n.hub.Drain(*pace)
	s := n.hub.DrainStatus()
	n.log.Info("clients are sent to other nodes; new ones are refused until the drain is cancelled or the relay is restarted",
		"count", s.Open, "over", time.Until(s.Ends).Round(time.Second))
	return http.StatusAccepted, nil
}

// cancelDrain lets clients in again.
func (n *node) cancelDrain(*http.Request) (int, error) {
	if !n.hub.Undrain() {
		return http.StatusConflict, errors.New("nothing is being drained")
	}
	n.log.Info("the drain is cancelled; new clients are let in again", "count", n.hub.Stats().Sessions)
	return http.StatusOK, nil
}
