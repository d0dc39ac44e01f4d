package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/ssetest"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// finish sends the last event of each group.
func (o *oracle) finish(s *stage) {
	for group, texts := range o.events {
		last := texts[len(texts)-1]
		if group == routeGroup {
			s.emitter.SendMessage(group, map[string]any{"type": "x.y", "text": last})
		} else {
			s.emitter.Send(peers.Event{Group: group, Text: last})
		}
	}
}

// emit sends all events but the last of each group: bursts of a group, events of all groups in turn, and single events.
func (o *oracle) emit(s *stage) {
	next := map[string]int{}
	groups := append([]string{openGroup, statusGroup}, coveredGroups...)
	left := func(group string) bool { return next[group] < len(o.events[group])-1 }
	take := func(group string) peers.Event {
		next[group]++
		return peers.Event{Group: group, Text: o.events[group][next[group]-1]}
	}
	for {
		var events []peers.Event
		switch group := groups[rand.IntN(len(groups))]; rand.IntN(3) {
		case 0:
			for n := 1 + rand.IntN(40); n > 0 && left(group); n-- {
				events = append(events, take(group))
			}
		case 1:
			for range 1 + rand.IntN(8) {
				for _, g := range groups {
					if left(g) {
						events = append(events, take(g))
					}
				}
			}
		default:
			if left(group) {
				events = append(events, take(group))
			}
		}
		if len(events) > 0 {
			s.emitter.Send(events...)
		}
		for range len(events)/4 + 1 {
			if left(routeGroup) {
				e := take(routeGroup)
				s.emitter.SendMessage(routeGroup, map[string]any{"type": "x.y", "text": e.Text})
			}
		}
		done := !left(routeGroup)
		for _, g := range groups {
			done = done && !left(g)
		}
		if done {
			return
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	}
}

// socketKind is a kind of WebSocket.
type socketKind struct {
	name       string
	h2, framed bool
	offer      string // of extensions
	bits       int
	forgets    bool
	slow       bool
}

// crowd returns the clients of the test.
func (o *oracle) crowd(s *stage) (clients []*oracleClient) {
	groups := append([]string{openGroup}, coveredGroups...)
	add := func(c *oracleClient) { clients = append(clients, c) }
	for _, k := range []socketKind{
		{name: "plain"},
		{name: "deflate", offer: "permessage-deflate"},
		{name: "deflate 9", offer: "permessage-deflate; server_max_window_bits=9", bits: 9},
		{name: "deflate 13", offer: "permessage-deflate; server_max_window_bits=13", bits: 13},
		{name: "deflate each", offer: "permessage-deflate; server_no_context_takeover", forgets: true},
		{name: "h2 plain", h2: true},
		{name: "h2 deflate", h2: true, offer: "permessage-deflate"},
		{name: "slow deflate", offer: "permessage-deflate", slow: true},
		{name: "framed", framed: true},
		{name: "framed deflate", framed: true, offer: "permessage-deflate"},
		{name: "framed deflate 10", framed: true, offer: "permessage-deflate; server_max_window_bits=10", bits: 10},
		{name: "h2 framed deflate", h2: true, framed: true, offer: "permessage-deflate"},
	} {
		for _, user := range []string{peers.Admin, peers.Alice} {
			login := s.logins[user]
			c := &oracleClient{view: o.view(k.name, user, k.framed), groups: append([]string{statusGroup}, groups...), stays: true, packs: k.offer != "" && k.bits == 0}
			c.run = o.socket(k, login, false)
			add(c)
			if k.framed {
				c = &oracleClient{view: o.view("restless "+k.name, user, true), groups: groups}
				c.run = o.socket(k, login, false)
				add(c)
			} else {
				c = &oracleClient{view: o.view("churning "+k.name, user, false), groups: append([]string{statusGroup}, groups...), stays: true, churns: true}
				c.run = o.socket(k, login, true)
				add(c)
			}
		}
		if !k.framed {
			c := &oracleClient{view: o.view("route "+k.name, "nobody", false), groups: []string{routeGroup}, stays: true, packs: k.offer != "" && k.bits == 0}
			c.run = o.socket(k, peers.Login{}, false)
			add(c)
		}
	}
	for _, h2 := range []bool{false, true} {
		for _, framed := range []bool{false, true} {
			for i, user := range []string{peers.Admin, peers.Alice} {
				name := fmt.Sprintf("stream h2=%v framed=%v", h2, framed)
				add(&oracleClient{view: o.view(name, user, true), groups: groups, run: o.stream(h2, framed, s.logins[user])})
				add(&oracleClient{view: o.view("lasting "+name, user, true), groups: groups, stays: true, run: o.stream(h2, framed, s.logins[user])})
				add(&oracleClient{view: o.view("single "+name, user, true), groups: coveredGroups[i:][:1], run: o.stream(h2, framed, s.logins[user])})
			}
			add(&oracleClient{view: o.view(fmt.Sprintf("route stream h2=%v framed=%v", h2, framed), "nobody", true), groups: []string{routeGroup}, run: o.stream(h2, framed, peers.Login{})})
		}
	}
	for _, user := range []string{peers.Admin, peers.Alice} {
		add(&oracleClient{view: o.view("poll", user, true), groups: groups, stays: true, run: o.polls(s.logins[user])})
	}
	add(&oracleClient{view: o.view("route poll", "nobody", true), groups: []string{routeGroup}, stays: true, run: o.polls(peers.Login{})})
	return clients
}

// request is the message of a client.
func oracleRequest(login peers.Login, since map[string][]string, groups ...string) string {
	object := map[string][]string{}
	for _, g := range groups {
		kind, item, _ := strings.Cut(g, "-")
		object[kind] = append(object[kind], item)
	}
	text, _ := json.Marshal(map[string]any{"groups": object, "xrftoken": login.CSRF, "since": since})
	return string(text)
}

// socket runs a WebSocket.
func (o *oracle) socket(k socketKind, login peers.Login, churns bool) func(context.Context, *view, string, []string) error {
	return func(ctx context.Context, v *view, node string, groups []string) error {
		route := groups[0] == routeGroup
		path, headers := "/websocket/", []string{"Cookie: " + login.Header().Get("Cookie")}
		if route {
			path, headers = routePath, nil
		}
		if k.offer != "" {
			headers = append(headers, "Sec-WebSocket-Extensions: "+k.offer)
		}
		if k.framed {
			headers = append(headers, "Sec-WebSocket-Protocol: edgerelay.events.v1")
		}
		w, resp, err := oracleDial(o, k.h2, node, path, headers)
		if err != nil {
			return err
		}
		defer w.Close()
		stop := context.AfterFunc(ctx, func() { _ = w.Close() })
		defer stop()
		deflates := strings.HasPrefix(resp.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate")
		inflater := relaytest.Inflater{Bits: k.bits, Forgets: k.forgets}
		have, left := map[string]bool{}, map[string]bool{}
		asked := 0 // an event may come before the answer
		ask := func(groups ...string) error {
			asked++
			return w.Write(wstest.MaskedFrame(0x81, oracleRequest(login, v.since(), groups...)))
		}
		if route {
			v.begun()
		} else {
			if err := ask(groups...); err != nil {
				return err
			}
		}
		for n := 0; ; n++ {
			f, err := w.Frame()
			if err != nil {
				return err
			}
			if k.slow && n%100 < 10 {
				time.Sleep(20 * time.Millisecond)
			}
			switch f.First {
			case 0x89:
				if err := w.Write(wstest.MaskedFrame(0x8a, string(f.Payload))); err != nil {
					return err
				}
				continue
			case 0x88:
				return fmt.Errorf("closed: %q", f.Payload)
			case 0xc1:
				if !deflates {
					v.lie(fmt.Errorf("%s: a compressed frame, and the answer was %v", v.name, resp.Header))
				}
				if f.Payload, err = inflater.Message(f.Payload); err != nil {
					v.lie(fmt.Errorf("%s: %w", v.name, err))
					return err
				}
				v.packed++
			case 0x81:
			default:
				v.lie(fmt.Errorf("%s: a frame %x %q", v.name, f.First, f.Payload))
			}
			text := string(f.Payload)
			switch {
			case strings.HasPrefix(text, `{"accept": `):
			case strings.HasPrefix(text, `{"error": `):
				v.lie(fmt.Errorf("%s: %s", v.name, text))
			case strings.HasPrefix(text, `{"groups_current": `):
				var change struct {
					Current []string `json:"groups_current"`
					Left    []string `json:"groups_left"`
				}
				_ = json.Unmarshal(f.Payload, &change)
				now := map[string]bool{}
				asked--
				if !k.framed {
					v.begun()
				}
				for _, g := range change.Left {
					left[g] = true
					v.fresh(g)
				}
				for _, g := range change.Current {
					if now[g] = true; !have[g] {
						delete(left, g)
					}
				}
				have = now
			case k.framed:
				v.frame(text)
			default:
				_, rest, _ := strings.Cut(text, `"g": "`)
				if g, _, _ := strings.Cut(rest, `"`); left[g] && asked == 0 {
					v.lie(fmt.Errorf("%s: an event of %s, which it has left: %.60s", v.name, g, text))
				}
				v.saw("", text, "")
			}
			if churns && rand.IntN(40) == 0 {
				var some []string
				for _, g := range groups {
					if rand.IntN(2) == 0 {
						some = append(some, g)
					}
				}
				if len(some) == 0 {
					some = groups[:1]
				}
				if err := ask(some...); err != nil {
					return err
				}
			}
		}
	}
}

func oracleDial(o *oracle, h2 bool, node, path string, headers []string) (*wstest.Wire, *http.Response, error) {
	if h2 {
		conn, err := wstest.DialHTTP2(o.t, node)
		if err != nil {
			return nil, nil, err
		}
		w, resp, body, err := conn.Connect(path, headers...)
		if err == nil && w == nil {
			err = fmt.Errorf("%s: %s", resp.Status, body)
		}
		return w, resp, err
	}
	w, err := wstest.DialWire(o.t, node)
	if err != nil {
		return nil, nil, err
	}
	if err := w.Write(w.Handshake(path, headers...)); err != nil {
		return nil, nil, err
	}
	resp, body, err := w.Response()
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return w, resp, err
}

// stream runs an event stream that resumes by its last id, as a browser does.
func (o *oracle) stream(h2, framed bool, login peers.Login) func(context.Context, *view, string, []string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if h2 {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		client.Transport = &http.Transport{Protocols: protocols}
	}
	last := ""
	return func(ctx context.Context, v *view, node string, groups []string) error {
		q := url.Values{"group": groups}
		path := "/websocket/?"
		if groups[0] == routeGroup {
			path, q = routePath+"?", url.Values{}
		}
		if framed {
			q.Set("protocol", "edgerelay.events.v1")
		}
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, node+path+q.Encode(), nil)
		r.Header = login.Header()
		r.Header.Set("Accept", "text/event-stream")
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		resp, err := client.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			body, _ := io.ReadAll(resp.Body)
			return fmt.Errorf("%s: %s", resp.Status, body)
		}
		for events := ssetest.NewReader(resp.Body); ; {
			e, err := events.Next()
			if err != nil {
				return err
			}
			if e.ID != "" {
				last = e.ID
			}
			switch {
			case e.Name == "close":
				return fmt.Errorf("close %s", e.Data)
			case e.Name == "groups_current":
			case e.Name != "" || framed:
				v.frame(e.Data)
			case groups[0] == routeGroup:
				v.saw(routeGroup, e.Data, "")
			default:
				v.saw("", e.Data, "")
			}
		}
	}
}

// polls runs long polls.
func (o *oracle) polls(login peers.Login) func(context.Context, *view, string, []string) error {
	client := &http.Client{Transport: &http.Transport{}}
	return func(ctx context.Context, v *view, node string, groups []string) error {
		path := "/websocket/"
		if groups[0] == routeGroup {
			path = routePath
		}
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, node+path+"?wait=5", bytes.NewReader([]byte(oracleRequest(login, v.since(), groups...))))
		r.Header = login.Header()
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		var answer struct{ Frames []json.RawMessage }
		if err := json.Unmarshal(body, &answer); err != nil {
			return fmt.Errorf("%s: %.200s", resp.Status, body)
		}
		for _, f := range answer.Frames {
			if strings.HasPrefix(string(f), `{"error"`) {
				v.lie(fmt.Errorf("%s: %s", v.name, f))
			}
			v.frame(string(f))
		}
		return nil
	}
}
