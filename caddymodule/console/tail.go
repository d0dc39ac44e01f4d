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
	// MaxTails is the number of open tails, for all operators together.
	MaxTails = 32
	// MaxTailEvents is the number of recent events that a tail keeps.
	MaxTailEvents = 200
	// latestEvents is the number of events with which the tail of a group with a history begins.
	latestEvents = 20
	// maxTailText is the part of an event's payload that a tail keeps, in bytes.
	maxTailText = 4 << 10
	// tailIdleTimeout is the time after the last poll at which a tail is closed.
	tailIdleTimeout = 10 * time.Second
)

// tails are the open tails, one per operator and group. Pages poll, so a tail without polls is closed.
// See docs/decisions/operations.md#why-does-the-console-poll
type tails struct {
	mu    sync.Mutex
	byKey map[string]*polledTail
}

// polledTail keeps recent events of a group for the next poll.
type polledTail struct {
	mu     sync.Mutex
	tail   *hub.Tail
	events []event
	next   int // number of the next event
	polled time.Time
	// checked is when the operator's right was last checked, and config that by which it was.
	checked time.Time
	config  *node.Config
}

// event is an event, as the page shows it.
type event struct {
	number int
	At     time.Time `json:"at"`
	// Lag is the time from publication to arrival in seconds, nil if unknown.
	Lag *float64 `json:"lag,omitempty"`
	// Type is the message type, empty for internal.message.
	Type string `json:"type,omitempty"`
	// Text is the payload; Cut reports that the payload is longer.
	Text string `json:"text"`
	Cut  bool   `json:"cut,omitempty"`
}

// poll is the response to GET tail?group=…&after=….
type poll struct {
	Events  []event `json:"events"`
	Next    int     `json:"next"`
	Dropped int     `json:"dropped"`
}

// tailsOf returns the tails of a node, which survive reloads.
func tailsOf(n *node.Node) *tails {
	type key struct{}
	return n.Extension(key{}, func() any {
		c := new(tails)
		n.Monitor.OnSample(func(now time.Time) { c.closeIdle(now.Add(-tailIdleTimeout)) })
		return c
	}).(*tails)
}

var errTooManyTails = errors.New("too many open tails; end another tail first")

// groupParameters reads the group of a request, and the parameter limit.
func groupParameters(r *http.Request, fallback, most int64) (group string, limit int, err error) {
	q := r.URL.Query()
	group = q.Get("group")
	n, err := admin.IntParameter(q, "limit", fallback, 0, most)
	if err == nil {
		err = checkGroup(group)
	}
	if err != nil {
		return "", 0, &refusal{http.StatusBadRequest, "bad_group", err.Error()}
	}
	return group, int(n), nil
}

func checkGroup(group string) error {
	if !relay.ValidGroup(group) || group == awx.BroadcastGroup {
		return fmt.Errorf("%.120q is not a valid group", group)
	}
	return nil
}

// serveTail responds with the events since the previous poll.
func (h *Handler) serveTail(w http.ResponseWriter, r *http.Request, id relay.Identity) error {
	group, _, err := groupParameters(r, 0, 0)
	if err != nil {
		return err
	}
	after, err := admin.IntParameter(r.URL.Query(), "after", 0, 0, 1<<53)
	if err != nil {
		return badRequest(err)
	}
	key := strings.Join([]string{id.Key, id.Name, id.Kind.String(), group}, "\x00")
	t, err := tailsOf(h.node).get(key, opener{
		config:    h.config,
		open:      func() (*hub.Tail, error) { return h.openTail(r.Context(), id, group) },
		authorize: func() error { return h.config.Authorizer.Authorize(r.Context(), id, group) },
	})
	if errors.Is(err, errTooManyTails) {
		return &refusal{http.StatusTooManyRequests, "too_many_tails", err.Error()}
	}
	if err != nil {
		return authorizationError(err)
	}
	return admin.WriteJSON(w, t.since(int(after)))
}

// authorizationError is the answer to an operator without the right to see a group.
func authorizationError(err error) error {
	if errors.Is(err, relay.ErrDenied) {
		return &refusal{http.StatusForbidden, "denied", "access to this group is denied"}
	}
	return &refusal{http.StatusServiceUnavailable, reject.AuthFailed.String(), "authorization is unavailable"}
}

// joinTimeout bounds the wait for the group's membership. The tail then starts anyway.
const joinTimeout = 2 * time.Second

// tailOptions authorizes the operator for a group, as a client, and returns the operator's view of it.
func (h *Handler) tailOptions(ctx context.Context, id relay.Identity, group string) (o hub.TailOptions, err error) {
	if err := h.config.Authorizer.Authorize(ctx, id, group); err != nil {
		return o, err
	}
	c, err := h.node.Hub.Classify(ctx, id, group)
	if err != nil {
		return o, err
	}
	return hub.TailOptions{Class: c.Class, Generation: &c.Generation}, nil
}

// authorizeGroup refuses an operator without the right to see a group.
func (h *Handler) authorizeGroup(ctx context.Context, id relay.Identity, group string) error {
	if err := checkGroup(group); err != nil {
		return &refusal{http.StatusBadRequest, "bad_group", err.Error()}
	}
	if _, err := h.tailOptions(ctx, id, group); err != nil {
		return authorizationError(err)
	}
	return nil
}

// openTail opens a tail with the operator's own rights, as for a client.
func (h *Handler) openTail(ctx context.Context, id relay.Identity, group string) (*hub.Tail, error) {
	options, err := h.tailOptions(ctx, id, group)
	if err != nil {
		return nil, err
	}
	if history := h.node.Hub.History(); history != nil {
		if _, ok := history.Limits(group); ok {
			options.Since = &relay.Resume{Latest: latestEvents}
		}
	}
	joining, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	return h.node.Hub.Tail(joining, group, options)
}

// opener opens a tail for an operator, and checks the right to it again.
type opener struct {
	config    *node.Config
	open      func() (*hub.Tail, error)
	authorize func() error
}

// recheckTails is the time after which the right to a tail is checked again, unless clients are rechecked sooner.
const recheckTails = time.Minute

// recheck checks the operator's right again, as for a client that has subscribed, and after a change of the
// configuration. t.mu is held.
func (t *polledTail) recheck(o opener) error {
	every := recheckTails
	if o.config.Recheck > 0 {
		every = min(every, o.config.Recheck)
	}
	now := time.Now()
	if t.config == o.config && now.Sub(t.checked) < every {
		return nil
	}
	t.checked, t.config = now, o.config
	return o.authorize()
}

// get returns the tail of a key, and opens the tail if there is none.
func (c *tails) get(key string, o opener) (*polledTail, error) {
	for {
		t, err := c.entry(key)
		if err != nil {
			return nil, err
		}
		if open, err := c.ensureOpen(key, t, o); open || err != nil {
			return t, err
		}
	}
}

// entry returns the entry of a key. Its tail may not be open yet.
func (c *tails) entry(key string) (*polledTail, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.byKey[key]
	if t == nil {
		if len(c.byKey) >= MaxTails {
			return nil, errTooManyTails
		}
		if c.byKey == nil {
			c.byKey = map[string]*polledTail{}
		}
		t = &polledTail{polled: time.Now()}
		c.byKey[key] = t
	}
	return t, nil
}

// ensureOpen opens the tail of an entry. It returns false if the entry was removed in the meantime.
func (c *tails) ensureOpen(key string, t *polledTail, o opener) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.mu.Lock()
	known := c.byKey[key] == t
	c.mu.Unlock()
	if !known {
		return false, nil
	}
	t.polled = time.Now()
	var tail *hub.Tail
	var err error
	if t.tail != nil && !t.tail.Outdated() {
		if err = t.recheck(o); err == nil {
			return true, nil
		}
	} else if tail, err = o.open(); err == nil {
		t.checked, t.config = time.Now(), o.config
	}
	if t.tail != nil { // another plugin decides now, or the operator may not see the group any more
		t.tail.Close()
		t.tail = nil
	}
	if err != nil {
		c.mu.Lock()
		delete(c.byKey, key)
		c.mu.Unlock()
		return false, err
	}
	t.tail = tail
	return true, nil
}

// CloseIdleTails closes the tails of a node without a poll since a time.
func CloseIdleTails(n *node.Node, since time.Time) { tailsOf(n).closeIdle(since) }

// closeIdle closes the tails without a poll since a time.
func (c *tails) closeIdle(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, t := range c.byKey {
		if !t.mu.TryLock() { // a poll is in progress
			continue
		}
		if t.polled.Before(since) {
			delete(c.byKey, key)
			if t.tail != nil {
				t.tail.Close()
			}
			t.tail = nil
		}
		t.mu.Unlock()
	}
}

// since returns the events from a number on, and the number of events that are no longer kept.
func (t *polledTail) since(after int) poll {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tail != nil {
		events, dropped := t.tail.Take()
		for _, ev := range events {
			t.events = append(t.events, eventOf(ev, t.next, maxTailText))
			t.next++
		}
		t.next += dropped
	}
	if over := len(t.events) - MaxTailEvents; over > 0 {
		t.events = append(t.events[:0], t.events[over:]...)
	}
	page := poll{Events: []event{}, Next: t.next}
	if after > t.next { // a number of an earlier tail
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

// eventOf converts an event of the hub, with at most a number of bytes of its text.
func eventOf(ev hub.TailEvent, number, maxText int) event {
	e := event{number: number, At: ev.At, Type: ev.Type}
	if ev.Source == relay.FromHistory && !ev.Position.IsZero() {
		e.At = time.UnixMicro(ev.Position.Micros)
	}
	if !ev.Sent.IsZero() && ev.Source != relay.FromHistory {
		lag := ev.At.Sub(ev.Sent).Seconds()
		e.Lag = &lag
	}
	text := ev.Text
	var compact bytes.Buffer
	if json.Compact(&compact, text) == nil {
		text = compact.Bytes()
	}
	if e.Cut = len(text) > maxText; e.Cut {
		text = text[:maxText]
	}
	e.Text = strings.ToValidUTF8(string(text), "")
	return e
}
