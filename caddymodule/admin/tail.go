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
	// Source is layer, peer or history. An event of the history has the time of publication in At.
	Source string `json:"source"`
	Group  string `json:"group"`
	// Type is the message type, empty for internal.message. Then Data is the whole message.
	Type string `json:"type,omitempty"`
	// Data is the payload if the payload is JSON; else Text is.
	Data json.RawMessage `json:"data,omitempty"`
	Text string          `json:"text,omitempty"`
	// Position is the event's place in the history of its group, empty if there is none.
	Position string `json:"position,omitempty"`
}

// tailGap is a line in place of events: of a number that the reader was too slow for, or of all after the position from
// which the tail was to begin, with the reason.
type tailGap struct {
	At           time.Time `json:"at"`
	Dropped      int       `json:"dropped,omitempty"`
	NotRecovered string    `json:"not_recovered,omitempty"`
}

// appendRecorded appends an event as a line of a recording, which `plugin test` and `plugin replay` read. The payload
// stays as it is, byte by byte: as JSON if it is JSON without line breaks, else as text.
func appendRecorded(line []byte, ev *hub.TailEvent) []byte {
	text := func(s string) {
		b, _ := json.Marshal(s) // a string always succeeds
		line = append(line, b...)
	}
	line = append(line, `{"group":`...)
	text(ev.Group)
	if json.Valid(ev.Text) && !bytes.ContainsAny(ev.Text, "\r\n") {
		line = append(append(line, `,"payload":`...), ev.Text...)
	} else {
		line = append(line, `,"text":`...)
		text(string(ev.Text))
	}
	line = append(line, `,"source":`...)
	text(ev.Source.String())
	if !ev.Sent.IsZero() {
		line = append(line, `,"sent":`...)
		text(ev.Sent.UTC().Format(time.RFC3339Nano))
	}
	if !ev.Position.IsZero() {
		line = append(line, `,"position":`...)
		text(ev.Position.String())
	}
	line = append(line, `,"at":`...)
	text(timeOf(ev).UTC().Format(time.RFC3339Nano))
	return append(line, "}\n"...)
}

// timeOf returns the time of an event's arrival, or for an event of the history the time of its position.
func timeOf(ev *hub.TailEvent) time.Time {
	if ev.Source == relay.FromHistory && !ev.Position.IsZero() {
		return time.UnixMicro(ev.Position.Micros)
	}
	return ev.At
}

// tailEventOf converts an event of the hub.
func tailEventOf(ev hub.TailEvent) TailEvent {
	e := TailEvent{At: timeOf(&ev), Sent: ev.Sent, Source: ev.Source.String(), Group: ev.Group, Type: ev.Type}
	if !ev.Position.IsZero() {
		e.Position = ev.Position.String()
	}
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
	options, record, err := tailOptions(r.URL.Query())
	if err != nil {
		return badRequest(err)
	}
	since, err := tailSince(n, group, r.URL.Query().Get("since"))
	if err != nil {
		return err
	}
	options.Since = since.resume
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
	if reason := tail.Resumed().Reason; reason != nil {
		if err := json.NewEncoder(w).Encode(tailGap{At: time.Now(), NotRecovered: reason.Error()}); err != nil {
			return nil
		}
	}
	if err := control.Flush(); err != nil {
		return nil // the client has disconnected
	}
	for {
		events, dropped, err := tail.Next(r.Context())
		if err != nil {
			return nil
		}
		if err := writeTail(w, record, since.trim(events), dropped); err != nil {
			return nil
		}
		if err := control.Flush(); err != nil {
			return nil
		}
	}
}

// tailOptions reads the parameters of a tail. record reports that the lines are those of a recording.
func tailOptions(q url.Values) (o hub.TailOptions, record bool, err error) {
	if err := rejectUnknownParameters(q, "raw", "class", "format", "since"); err != nil {
		return o, false, err
	}
	switch format := q.Get("format"); format {
	case "", "tail":
	case "recording":
		record = true
	default:
		return o, false, fmt.Errorf("invalid format %q; use tail or recording", format)
	}
	raw := q.Get("raw")
	if raw != "" && raw != "true" && raw != "false" {
		return o, false, fmt.Errorf("invalid raw %q; use true or false", raw)
	}
	class, err := IntParameter(q, "class", 0, 0, relay.MaxClass)
	return hub.TailOptions{Raw: raw == "true", Class: uint8(class)}, record, err
}

// writeTail writes events, and a gap if events were dropped, as lines of JSON.
func writeTail(w http.ResponseWriter, record bool, events []hub.TailEvent, dropped int) error {
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	for i := range events {
		var err error
		if record {
			_, err = w.Write(appendRecorded(nil, &events[i]))
		} else {
			err = lines.Encode(tailEventOf(events[i]))
		}
		if err != nil {
			return err
		}
	}
	if dropped > 0 {
		return lines.Encode(tailGap{At: time.Now(), Dropped: dropped})
	}
	return nil
}
