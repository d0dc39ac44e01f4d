//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// doorCases are the ways of clients of AWX's protocol to be connected, in turn; the first is the one to compare with.
// They are sessions like those of routes.
var doorCases = []routeCase{
	{name: "websocket", title: "WebSocket"},
	{name: "websocket-positions", title: "WebSocket with positions", dialect: dialectEvents},
	{name: "stream", title: "event stream", dialect: dialectStream},
	{name: "stream-groups", title: "event stream, two groups", dialect: dialectStreams},
}

const (
	// dialectStream is an event stream (server-sent events), subscribed by its URL.
	dialectStream dialect = "stream"
	// dialectStreams is dialectStream with a second group, so that ids differ by client.
	dialectStreams dialect = "streams"
)

func (d dialect) isStream() bool { return d == dialectStream || d == dialectStreams }

// openStream asks for an event stream on rw, and returns the bytes received after the beginning of the subscription.
func openStream(rw io.ReadWriter, t target, place int) (rest []byte, err error) {
	query := "?group=" + t.groupsOf(place)[0]
	if t.Dialect == dialectStreams {
		query += "&group=bench-other"
	}
	_, err = io.WriteString(rw, "GET "+t.Path+query+" HTTP/1.1\r\nHost: "+t.Addr+"\r\nAccept: text/event-stream\r\n\r\n")
	if err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	in := &inbox{r: rw}
	for wanted := strings.Count(query, "group="); ; {
		if !bytes.HasPrefix([]byte("HTTP/1.1 200 "), in.buf[:min(len(in.buf), len("HTTP/1.1 200 "))]) {
			return nil, fmt.Errorf("request refused: %.200q", in.buf)
		}
		if bytes.Count(in.buf, []byte("event: subscribed\ndata: ")) == wanted && bytes.HasSuffix(in.buf, []byte("\n\n")) {
			return nil, nil
		}
		if len(in.buf) > 16<<10 {
			return nil, fmt.Errorf("no subscription in 16 KiB: %.500q", in.buf)
		}
		if err := in.more(); err != nil {
			return nil, fmt.Errorf("read response: %w", err)
		}
	}
}

// consumeStream counts client i's complete events in b and returns the rest. The caller holds mu.
func (r *receiver) consumeStream(i int, b []byte, now int64) []byte {
	c := &r.clients[i]
	for {
		at := bytes.Index(b, []byte("\n\n"))
		if at < 0 {
			return b
		}
		event, size := b[:at], at+2
		b = b[size:]
		if bytes.HasPrefix(event, []byte("event: close")) {
			r.hangUp(c, string(event))
			return nil
		}
		if bytes.HasPrefix(event, []byte("id: ")) {
			_, event, _ = bytes.Cut(event, []byte("\n"))
		}
		if data, ok := bytes.CutPrefix(event, []byte("data: ")); ok {
			r.event(i, c, data, now, size)
		}
	}
}

// doors is the report's part about doors.
func (res *results) doors(b *strings.Builder) {
	begun := false
	for _, m := range res.Medians {
		door := findRoute(m.Route)
		if door == nil || !door.isDoor() || m.Kind == kindConnect && m.IdleAfterGC == 0 {
			continue
		}
		if !begun {
			fmt.Fprintf(b, "\n## Doors\n\n| system | clients by | row | CPU-s/M | × WebSocket | p99 ms | KiB a connection "+
				"after a collection | more |\n|---|---|---|--:|--:|--:|--:|--:|\n")
			begun = true
		}
		res.doorRow(b, &m, door.title, doorCases[0].name)
	}
}

func (c *routeCase) isDoor() bool {
	for i := range doorCases {
		if c == &doorCases[i] {
			return true
		}
	}
	return false
}
