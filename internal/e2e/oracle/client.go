package oracle

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// frame is any frame of the subprotocol.
type frame struct {
	Type      string
	Group     string
	Groups    []string
	Position  string
	Recovered *bool
	Reason    string
	Events    int
	Event     *event
	Text      string // of a route: the event
	Error     string
	Close     bool
}

// event is a published event.
type event struct {
	Emitter string
	Group   int
	N       int
}

// remembered is the number of positions that a client remembers for a group.
const remembered = 2000

// Client keeps a subscription to some groups over all reconnects. Set its fields before [Client.Run].
type Client struct {
	// Door is the kind of connection; [WebSocket] by default.
	Door Door
	// Kind is the part of the groups' names before "-" and the number, and Route is empty; or Route is the path before
	// a client's only number, whose group is Kind, "_" and the number.
	Kind, Route string

	o      *Oracle
	name   string
	groups []int
	// lists: the client sends the positions that it has, and not just the last one.
	lists  bool
	node   string
	nodes  func() []string // URLs of the nodes
	random *rand.Rand
	stop   chan struct{}

	mu    sync.Mutex // guards the fields below, and the views' contents
	conn  conn
	views map[string]*view // by group; the map does not change after the first connection
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

// NewClient returns the client n. It connects to one of the nodes at random, whose URLs the function returns.
func NewClient(o *Oracle, n int, groups []int, nodes func() []string) *Client {
	return &Client{
		Door: WebSocket, Kind: "job_events",
		o: o, name: fmt.Sprint("client ", n), groups: groups, nodes: nodes, lists: n/10%2 == 1,
		random: rand.New(rand.NewPCG(uint64(n), 1)), stop: make(chan struct{}),
		views: map[string]*view{},
	}
}

// Run connects until [Client.Stop].
func (c *Client) Run() {
	c.begin()
	for first := true; !c.ended(); first = false {
		if !first && c.Door.lasting {
			c.o.count(func(t *Tally) { t.Reconnects++ })
		}
		err := c.connection()
		switch {
		case errors.Is(err, errAnswered):
			testkit.Pause(c.stop, 10*time.Millisecond)
		case err != nil:
			testkit.Pause(c.stop, time.Duration(50+c.random.IntN(200))*time.Millisecond)
		}
	}
}

// Stop ends the client: Run returns soon.
func (c *Client) Stop() {
	close(c.stop)
	c.Cut()
}

// begin creates the views of the client's groups.
func (c *Client) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.name += " (" + c.Door.Name + ")"
	for _, g := range c.groups {
		v := &view{record: newRecord(c.o, c.name, g), seen: map[string]bool{}}
		v.record.trail = func() []string { return v.trail }
		c.views[c.group(g)] = v
	}
}

// group returns the full name of a group.
func (c *Client) group(n int) string {
	if c.Route != "" {
		return fmt.Sprint(c.Kind, "_", n)
	}
	return fmt.Sprint(c.Kind, "-", n)
}

// path returns the path of the client's connections.
func (c *Client) path() string {
	if c.Route != "" {
		return fmt.Sprint(c.Route, c.groups[0], "/")
	}
	return "/websocket/"
}

func (c *Client) ended() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// Cut ends the current connection as a network does.
func (c *Client) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.close()
	}
}

// Judge adds the faults of all groups to the oracle. Run has returned.
func (c *Client) Judge() {
	for _, v := range c.views {
		v.judge()
	}
}

// Ready returns an error that names a group without a subscription on the current connection, or of polls without a
// position.
func (c *Client) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.views) == 0 {
		return fmt.Errorf("%s has not begun", c.name)
	}
	for group, v := range c.views {
		if !v.ready && (c.Door.lasting || v.since == "") {
			return fmt.Errorf("%s is not subscribed to %s", c.name, group)
		}
	}
	return nil
}

// connection is one connection until its end.
func (c *Client) connection() error {
	nodes := c.nodes()
	if len(nodes) == 0 {
		return errors.New("no node")
	}
	c.node = nodes[c.random.IntN(len(nodes))]
	conn, err := c.Door.open(c.node+c.path(), c.request())
	if err != nil {
		return err
	}
	defer conn.close()
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	if c.ended() {
		return nil
	}
	for {
		text, err := conn.next()
		if err != nil {
			if faulty := (faultyError{}); errors.As(err, &faulty) {
				c.o.Complain("%s: %v", c.name, err)
			}
			return err
		}
		if err := c.take(text); err != nil {
			return err
		}
	}
}

// request is the message that subscribes, and resumes groups with a position.
func (c *Client) request() string {
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
	message := map[string]any{"xrftoken": "t", "since": since}
	if c.Route == "" {
		message["groups"] = map[string]any{c.Kind: c.groups}
	}
	text, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// take handles a frame.
func (c *Client) take(text string) error {
	var f frame
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		c.o.Complain("%s: frame %.200q: %v", c.name, text, err)
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	switch f.Type {
	case "":
		if f.Error != "" || f.Close {
			c.o.Complain("%s: %.200s", c.name, text)
			return errors.New(f.Error)
		}
		return nil // the greeting, or groups_current
	case "gap":
		if f.Groups == nil { // all
			f.Groups = slices.Collect(maps.Keys(c.views))
		}
		for _, group := range f.Groups {
			if v := c.views[group]; v != nil {
				v.broken(now, f.Position)
				if f.Position != "" {
					v.since = f.Position
				}
			}
		}
		c.o.count(func(t *Tally) { t.Gaps++; t.Reasons["gap "+f.Reason]++ })
		return nil
	}
	v := c.views[f.Group]
	if v != nil {
		v.note(now, text)
	}
	if v == nil {
		c.o.Complain("%s: frame of another group: %.200s", c.name, text)
		return nil
	}
	switch f.Type {
	case "subscribed":
		c.subscribed(v, f, text, now)
	case "event":
		c.event(v, f, text, now)
	case "withheld":
		c.o.count(func(t *Tally) { t.Withheld++ })
	default:
		c.o.Complain("%s: unknown frame %.200s", c.name, text)
	}
	return nil
}

func (c *Client) subscribed(v *view, f frame, text string, now time.Time) {
	if v.ready {
		c.o.Complain("%s: subscribed twice: %.200s", c.name, text)
	}
	v.ready, v.toReplay = true, f.Events
	asked := v.since != ""
	switch {
	case asked != (f.Recovered != nil):
		c.o.Complain("%s: resumed %v, but %.200s", c.name, asked, text)
	case asked && *f.Recovered:
		c.o.count(func(t *Tally) { t.Recovered++ })
	case asked:
		if f.Events != 0 {
			c.o.Complain("%s: a part of the events: %.200s", c.name, text)
		}
		v.notRecovered(now, f.Position)
		c.o.count(func(t *Tally) { t.NotRecovered++; t.Reasons["not recovered: "+f.Reason]++ })
	}
	switch {
	case f.Position != "":
		v.since = f.Position
	case f.Reason != "unavailable": // then the client keeps the position that it has
		c.o.Complain("%s: no position: %.200s", c.name, text)
	}
}

func (c *Client) event(v *view, f frame, text string, now time.Time) {
	if f.Event == nil && f.Text != "" {
		if err := json.Unmarshal([]byte(f.Text), &f.Event); err != nil {
			c.o.Complain("%s: the route's frame %.200q: %v", c.name, f.Text, err)
		}
	}
	if !v.ready || f.Event == nil || f.Position == "" {
		c.o.Complain("%s: an event too early, or without position: %.200s", c.name, text)
		return
	}
	v.since, v.record.replaying = f.Position, v.toReplay > 0
	v.toReplay--
	if v.seen[f.Position] {
		c.o.count(func(t *Tally) { t.Repeated++ })
		if c.lists {
			c.o.Complain("%s: a position that the client listed: %.200s", c.name, text)
		}
		return
	}
	v.seen[f.Position] = true
	if v.have = append(v.have, f.Position); len(v.have) > remembered {
		delete(v.seen, v.have[0])
		v.have = v.have[1:]
	}
	v.record.event(f.Event.Emitter, f.Event.N, f.Position, now)
	c.o.count(func(t *Tally) { t.Received++; t.Doors[c.Door.Name]++ })
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
