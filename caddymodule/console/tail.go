package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
)

const (
	// consoleTailsMost is how many tails consoles may have open at once, on all pages together.
	ConsoleTailsMost = 32
	// consoleTailKeep and consoleTailText bound what is kept of one: events, and bytes of each.
	ConsoleTailKeep = 200
	consoleTailText = 4 << 10
	// consoleTailIdle is how long a tail stays open that no page asks for.
	consoleTailIdle = 10 * time.Second
)

// consoleTails are the tails that pages of the console ask for, one for each operator and group. Pages poll, so a tail that is not
// asked for any more is closed.
// See docs/decisions/operations.md#why-does-the-console-poll
type consoleTails struct {
	mu    sync.Mutex
	tails map[string]*consoleTail
}

// consoleTail keeps the last events of a group.
type consoleTail struct {
	mu     sync.Mutex
	tail   *hub.Tail
	events []consoleEvent
	next   int // number of the next event
	used   time.Time
}

// consoleEvent is an event as the page shows it.
type consoleEvent struct {
	number int
	At     time.Time `json:"at"`
	// Lag is how many seconds after its publication it came, if that is known.
	Lag *float64 `json:"lag,omitempty"`
	// Text is the payload; Cut is set where that is longer.
	Text string `json:"text"`
	Cut  bool   `json:"cut,omitempty"`
}

// consoleTailPage is what GET tail?group=…&after=… answers.
type consoleTailPage struct {
	Events  []consoleEvent `json:"events"`
	Next    int            `json:"next"`
	Dropped int            `json:"dropped"`
}

// tailsOf returns a node's.
func TailsOf(n *node.Node) *consoleTails {
	type key struct{}
	return n.Extension(key{}, func() any {
		c := new(consoleTails)
		n.Monitor.OnSample(func(now time.Time) { c.CloseIdle(now.Add(-consoleTailIdle)) })
		return c
	}).(*consoleTails)
}

var errTooManyTails = errors.New("too many groups are being followed; end another tail first")

func (h *ConsoleHandler) serveTail(w http.ResponseWriter, r *http.Request, id relay.Identity) error {
	q, n := r.URL.Query(), h.node
	group := q.Get("group")
	after, err := admin.IntParameter(q, "after", 0, 0, 1<<53)
	if err != nil || !relay.ValidGroup(group) || group == awx.BroadcastGroup {
		reject.Respond(w, r, http.StatusBadRequest, "bad_group",
			fmt.Sprintf("%.120q is not a group that can be followed", group))
		return nil
	}
	t, err := TailsOf(n).get(id.Key+"\x00"+id.Name+"\x00"+group, func() (*hub.Tail, error) { return h.openTail(r.Context(), id, group) })
	switch {
	case errors.Is(err, relay.ErrDenied):
		reject.Respond(w, r, http.StatusForbidden, "denied", "you may not see this group")
		return nil
	case errors.Is(err, errTooManyTails):
		reject.Respond(w, r, http.StatusTooManyRequests, "too_many_tails", err.Error())
		return nil
	case err != nil:
		reject.Respond(w, r, http.StatusServiceUnavailable, reject.AuthFailed.String(),
			"it cannot be found out whether you may see this group")
		return nil
	}
	return admin.WriteJSON(w, t.since(int(after)))
}

// openTail begins to follow a group, as the operator would get it as a client.
func (h *ConsoleHandler) openTail(ctx context.Context, id relay.Identity, group string) (*hub.Tail, error) {
	kind, item, _ := strings.Cut(group, "-")
	if err := h.config.Authorizer.Authorize(ctx, id, kind, item); err != nil {
		return nil, err
	}
	class, err := h.node.Hub.Classify(ctx, id, group)
	if err != nil {
		return nil, err
	}
	joining, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return h.node.Hub.Tail(joining, group, hub.TailOptions{Class: class})
}

// get returns the tail of a key, which open begins if there is none yet.
func (c *consoleTails) get(key string, open func() (*hub.Tail, error)) (*consoleTail, error) {
	for {
		t, err := c.entry(key)
		if err != nil {
			return nil, err
		}
		if open, err := c.opened(key, t, open); open || err != nil {
			return t, err
		}
	}
}

// entry is a key's, perhaps of a tail that is still to be opened.
func (c *consoleTails) entry(key string) (*consoleTail, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tails[key]
	if t == nil {
		if len(c.tails) >= ConsoleTailsMost {
			return nil, errTooManyTails
		}
		if c.tails == nil {
			c.tails = map[string]*consoleTail{}
		}
		t = &consoleTail{used: time.Now()}
		c.tails[key] = t
	}
	return t, nil
}

// opened has a key's tail opened. It is false if the entry was given up while it was waited for.
func (c *consoleTails) opened(key string, t *consoleTail, open func() (*hub.Tail, error)) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.mu.Lock()
	known := c.tails[key] == t
	c.mu.Unlock()
	if !known {
		return false, nil
	}
	t.used = time.Now()
	if t.tail != nil {
		return true, nil
	}
	tail, err := open()
	if err != nil {
		c.mu.Lock()
		delete(c.tails, key)
		c.mu.Unlock()
		return false, err
	}
	t.tail = tail
	return true, nil
}

// closeIdle closes the tails that were not asked for since a time.
func (c *consoleTails) CloseIdle(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, t := range c.tails {
		if !t.mu.TryLock() { // is being asked for
			continue
		}
		if t.used.Before(since) {
			delete(c.tails, key)
			if t.tail != nil {
				t.tail.Close()
			}
			t.tail = nil
		}
		t.mu.Unlock()
	}
}

// since returns the events from a number on, as far as they are kept.
func (t *consoleTail) since(after int) consoleTailPage {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tail != nil {
		events, dropped := t.tail.Take()
		for _, ev := range events {
			t.events = append(t.events, consoleEventOf(ev, t.next))
			t.next++
		}
		t.next += dropped
	}
	if over := len(t.events) - ConsoleTailKeep; over > 0 {
		t.events = append(t.events[:0], t.events[over:]...)
	}
	page := consoleTailPage{Events: []consoleEvent{}, Next: t.next}
	if after > t.next { // of an earlier tail
		after = 0
	}
	for _, ev := range t.events {
		if ev.number >= after {
			page.Events = append(page.Events, ev)
		}
	}
	if after > 0 {
		page.Dropped = t.next - after - len(page.Events)
	}
	return page
}

func consoleEventOf(ev hub.TailEvent, number int) consoleEvent {
	e := consoleEvent{number: number, At: ev.At}
	if !ev.Sent.IsZero() {
		lag := ev.At.Sub(ev.Sent).Seconds()
		e.Lag = &lag
	}
	text := ev.Text
	var compact bytes.Buffer
	if json.Compact(&compact, text) == nil {
		text = compact.Bytes()
	}
	if e.Cut = len(text) > consoleTailText; e.Cut {
		text = text[:consoleTailText]
	}
	e.Text = strings.ToValidUTF8(string(text), "")
	return e
}
