package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// TailEvent is a line of GET /edgerelay/groups/<name>/tail.
type TailEvent struct {
	// At is the time of the event's arrival at this node, Sent the time of publication, zero if unknown.
	At   time.Time `json:"at"`
	Sent time.Time `json:"sent,omitzero"`
	// Source is layer or peer.
	Source string `json:"source"`
	// Data is the payload if the payload is JSON; else Text is.
	Data json.RawMessage `json:"data,omitempty"`
	Text string          `json:"text,omitempty"`
}

// tailGap is a line in place of events that the reader was too slow for.
type tailGap struct {
	At      time.Time `json:"at"`
	Dropped int       `json:"dropped"`
}

// tailEventOf converts an event of the hub.
func tailEventOf(ev hub.TailEvent) TailEvent {
	e := TailEvent{At: ev.At, Sent: ev.Sent, Source: ev.Source.String()}
	var line bytes.Buffer
	if json.Compact(&line, ev.Text) == nil {
		e.Data = line.Bytes()
	} else {
		e.Text = string(ev.Text)
	}
	return e
}

// tailJoinTimeout bounds the wait for the group's membership. The tail then starts anyway.
const tailJoinTimeout = 5 * time.Second

// serveTail streams the events of a group until the client disconnects.
func serveTail(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	group := r.PathValue("name")
	options, err := tailOptions(r.URL.Query())
	if err != nil {
		return badRequest(err)
	}
	if err := relay.CheckGroup(group); err != nil {
		return badRequest(err)
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the admin server's deadline would end the request after ten seconds
	joining, cancel := context.WithTimeout(r.Context(), tailJoinTimeout)
	tail, err := n.Hub.Tail(joining, group, options)
	cancel()
	if err != nil {
		return badRequest(err)
	}
	defer tail.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if err := control.Flush(); err != nil {
		return nil // the client has disconnected
	}
	for {
		events, dropped, err := tail.Next(r.Context())
		if err != nil {
			return nil
		}
		if err := writeTail(w, events, dropped); err != nil {
			return nil
		}
		if err := control.Flush(); err != nil {
			return nil
		}
	}
}

// tailOptions reads the parameters of a tail.
func tailOptions(q url.Values) (o hub.TailOptions, err error) {
	if err := rejectUnknownParameters(q, "raw", "class"); err != nil {
		return o, err
	}
	raw := q.Get("raw")
	if raw != "" && raw != "true" && raw != "false" {
		return o, fmt.Errorf("invalid raw %q; use true or false", raw)
	}
	class, err := IntParameter(q, "class", 0, 0, relay.MaxClass)
	return hub.TailOptions{Raw: raw == "true", Class: uint8(class)}, err
}

// writeTail writes events, and a gap if events were dropped, as lines of JSON.
func writeTail(w http.ResponseWriter, events []hub.TailEvent, dropped int) error {
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	for _, ev := range events {
		if err := lines.Encode(tailEventOf(ev)); err != nil {
			return err
		}
	}
	if dropped > 0 {
		return lines.Encode(tailGap{time.Now(), dropped})
	}
	return nil
}
