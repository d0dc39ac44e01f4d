package continuity

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// subprotocol is that of clients which get positions.
const subprotocol = "edgerelay.events.v1"

// frame is any frame of the subprotocol.
type frame struct {
	Type      string
	Group     string
	Groups    []string
	Position  string
	Recovered *bool
	Reason    string
	Events    int
	Event     *struct {
		Emitter string
		Group   int
		N       int
	}
	Error string
	Close bool
}

// remembered is the number of positions that a client remembers for a group.
const remembered = 2000

// client keeps a subscription to some groups over all reconnects.
type client struct {
	o      *oracle
	name   string
	groups []int
	// lists: the client sends the positions that it has, and not just the last one.
	lists   bool
	node    string
	nodes   func() []string // URLs of the nodes
	random  *rand.Rand
	stop    chan struct{}
	stopped chan struct{}

	mu    sync.Mutex // guards the fields below, and the views' contents
	raw   *wstest.Raw
	views map[string]*view // by group; the map does not change
}

// view is a client's state of a group.
type view struct {
	*record
	trail []string // the last frames, for a fault
	since string   // the position to resume from
	have  []string // the last positions, oldest first
	seen  map[string]bool
	ready bool // subscribed on this connection
	// toReplay is the number of events that the replay still has, if above 0.
	toReplay int
}

func newClient(o *oracle, n int, groups []int, nodes func() []string) *client {
	c := &client{
		o: o, name: fmt.Sprint("client ", n), groups: groups, nodes: nodes, lists: n/10%2 == 1,
		random: rand.New(rand.NewPCG(uint64(n), 1)), stop: make(chan struct{}), stopped: make(chan struct{}),
		views: map[string]*view{},
	}
	for _, g := range groups {
		v := &view{record: newRecord(o, c.name, g), seen: map[string]bool{}}
		v.record.trail = func() []string { return v.trail }
		c.views[fmt.Sprint("job_events-", g)] = v
	}
	return c
}

// run connects until the client is stopped.
func (c *client) run() {
	defer close(c.stopped)
	for first := true; ; first = false {
		if c.ended() {
			return
		}
		if !first {
			c.o.count(func(t *tally) { t.reconnects++ })
		}
		err := c.connection()
		if err != nil && !c.ended() {
			pause(c.stop, time.Duration(50+c.random.IntN(200))*time.Millisecond)
		}
	}
}

func (c *client) ended() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// pause waits, or until stop is closed.
func pause(stop <-chan struct{}, d time.Duration) {
	select {
	case <-stop:
	case <-time.After(d):
	}
}

// cut ends the current connection as a network does.
func (c *client) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.raw != nil {
		c.raw.Close()
	}
}

// connection is one connection until its end.
func (c *client) connection() error {
	nodes := c.nodes()
	if len(nodes) == 0 {
		return errors.New("no node")
	}
	c.node = nodes[c.random.IntN(len(nodes))]
	raw, err := wstest.DialRaw(c.node+"/websocket/", "csrftoken=t",
		"Sec-WebSocket-Protocol: "+subprotocol)
	if err != nil {
		return err
	}
	defer raw.Close()
	c.mu.Lock()
	c.raw = raw
	c.mu.Unlock()
	if c.ended() {
		return nil
	}
	if err := raw.Send(c.subscription()); err != nil {
		return err
	}
	for {
		text, err := raw.Next(60 * time.Second)
		if err != nil {
			return err
		}
		if err := c.take(text); err != nil {
			return err
		}
	}
}

// subscription is the message that subscribes, and resumes groups with a position.
func (c *client) subscription() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	since := map[string]any{}
	for name, v := range c.views {
		v.ready = false
		v.note(time.Now(), "connected to "+c.node+", since "+v.since)
		switch {
		case v.since == "":
		case c.lists:
			since[name] = append(slices.Clone(v.have[max(0, len(v.have)-100):]), v.since)
		default:
			since[name] = v.since
		}
	}
	text, err := json.Marshal(map[string]any{
		"groups": map[string]any{"job_events": c.groups}, "xrftoken": "t", "since": since,
	})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// take handles a frame.
func (c *client) take(text string) error {
	var f frame
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		c.o.complain("%s: frame %.200q: %v", c.name, text, err)
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	switch f.Type {
	case "":
		if f.Error != "" || f.Close {
			c.o.complain("%s: %.200s", c.name, text)
			return errors.New(f.Error)
		}
		return nil // the greeting, or groups_current
	case "gap":
		for _, group := range f.Groups {
			if v := c.views[group]; v != nil {
				v.broken(now, f.Position)
				if f.Position != "" {
					v.since = f.Position
				}
			}
		}
		c.o.count(func(t *tally) { t.gaps++; t.reasons["gap "+f.Reason]++ })
		return nil
	}
	v := c.views[f.Group]
	if v != nil {
		v.note(now, text)
	}
	if v == nil {
		c.o.complain("%s: frame of another group: %.200s", c.name, text)
		return nil
	}
	switch f.Type {
	case "subscribed":
		c.subscribed(v, f, text, now)
	case "event":
		c.event(v, f, text, now)
	case "withheld":
		c.o.count(func(t *tally) { t.withheld++ })
	default:
		c.o.complain("%s: unknown frame %.200s", c.name, text)
	}
	return nil
}

func (c *client) subscribed(v *view, f frame, text string, now time.Time) {
	if v.ready {
		c.o.complain("%s: subscribed twice: %.200s", c.name, text)
	}
	v.ready, v.toReplay = true, f.Events
	asked := v.since != ""
	switch {
	case asked != (f.Recovered != nil):
		c.o.complain("%s: resumed %v, but %.200s", c.name, asked, text)
	case asked && *f.Recovered:
		c.o.count(func(t *tally) { t.recovered++ })
	case asked:
		if f.Events != 0 {
			c.o.complain("%s: a part of the events: %.200s", c.name, text)
		}
		v.notRecovered(now, f.Position)
		c.o.count(func(t *tally) { t.notRecovered++; t.reasons["not recovered: "+f.Reason]++ })
	}
	switch {
	case f.Position != "":
		v.since = f.Position
	case f.Reason != "unavailable": // then the client keeps the position that it has
		c.o.complain("%s: no position: %.200s", c.name, text)
	}
}

func (c *client) event(v *view, f frame, text string, now time.Time) {
	if !v.ready || f.Event == nil || f.Position == "" {
		c.o.complain("%s: an event too early, or without position: %.200s", c.name, text)
		return
	}
	v.since, v.record.replaying = f.Position, v.toReplay > 0
	v.toReplay--
	if v.seen[f.Position] {
		c.o.count(func(t *tally) { t.repeated++ })
		if c.lists {
			c.o.complain("%s: a position that the client listed: %.200s", c.name, text)
		}
		return
	}
	v.seen[f.Position] = true
	if v.have = append(v.have, f.Position); len(v.have) > remembered {
		delete(v.seen, v.have[0])
		v.have = v.have[1:]
	}
	v.record.event(f.Event.Emitter, f.Event.N, f.Position, now)
	c.o.count(func(t *tally) { t.received++ })
}

// count changes the tally.
func (o *oracle) count(change func(*tally)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.total)
}

// ready reports whether the client is subscribed to a group.
func (c *client) ready(group string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.views[group].ready
}

// note records a frame.
func (v *view) note(now time.Time, text string) {
	if at := strings.Index(text, `, "pad"`); at > 0 {
		text = text[:at]
	}
	if v.trail = append(v.trail, now.Format("15:04:05.000 ")+text); len(v.trail) > 400 {
		v.trail = v.trail[100:]
	}
}
