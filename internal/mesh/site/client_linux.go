package site

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/internal/mesh/judge"
	"github.com/edgerelay/edgerelay/internal/mesh/wire"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// resyncFrame is the frame of clients of AWX's dialect that may have missed events.
const resyncFrame = `{"resync": true}`

// Client is a browser that stays subscribed to its groups over all reconnects and records what it gets.
type Client struct {
	site *Site
	node *Node
	from *wire.Namespace // nil: the node's own
	// positions: the client speaks edgerelay.events.v1 and is told of gaps; others speak AWX's dialect.
	positions bool
	stop      chan struct{}
	stopped   chan struct{}

	mu     sync.Mutex // guards the fields below
	raw    *wstest.Raw
	record judge.Client
	ready  bool
	failed error // why the last attempt to connect failed
	// newest has the last event of each emitter and group.
	newest map[[2]int]int
}

func (s *Site) startClient(name string, n *Node, from *wire.Namespace, groups []int, positions bool) *Client {
	c := &Client{
		site: s, node: n, from: from, positions: positions, stop: make(chan struct{}), stopped: make(chan struct{}),
		record: judge.Client{Name: name, Node: n.Name, Groups: groups}, newest: map[[2]int]int{},
	}
	s.clients = append(s.clients, c)
	go c.run()
	return c
}

// run connects until the client is stopped.
func (c *Client) run() {
	defer close(c.stopped)
	for first := true; !c.ended(); first = false {
		err := c.connection(first)
		if c.ended() {
			return
		}
		var rejected notConnected
		if !errors.As(err, &rejected) {
			c.closed(err)
		} else {
			c.mu.Lock()
			c.failed = err
			c.mu.Unlock()
		}
		select {
		case <-c.stop:
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// notConnected is an error before the connection was there.
type notConnected struct{ error }

func (c *Client) ended() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// end stops the client.
func (c *Client) end() {
	close(c.stop)
	c.mu.Lock()
	if c.raw != nil {
		c.raw.Close()
	}
	c.mu.Unlock()
	<-c.stopped
}

// closed records the end of a connection, which tells the client that events may be missing.
func (c *Client) closed(err error) {
	kind := "broken"
	var frame wstest.ClosedError
	if errors.As(err, &frame) {
		kind = strings.TrimSpace(fmt.Sprint(frame.Code, " ", frame.Reason))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready = false
	n := judge.Notice{At: time.Now(), Kind: kind}
	c.record.Closed = append(c.record.Closed, n)
	c.record.Notices = append(c.record.Notices, n)
}

// connection is one connection until its end.
func (c *Client) connection(first bool) error {
	var headers []string
	if c.positions {
		headers = append(headers, "Sec-WebSocket-Protocol: edgerelay.events.v1")
	}
	from := c.from
	if from == nil {
		from = c.node.NS()
	}
	var raw *wstest.Raw
	err := from.Do(func() (err error) {
		raw, err = wstest.DialRaw(c.node.URL()+"/websocket/", "csrftoken=t", headers...)
		return err
	})
	if err != nil {
		return notConnected{err}
	}
	defer raw.Close()
	c.mu.Lock()
	c.raw = raw
	c.mu.Unlock()
	if c.ended() {
		return nil
	}
	text, err := json.Marshal(map[string]any{"groups": map[string]any{"job_events": c.record.Groups}, "xrftoken": "t"})
	if err != nil {
		return err
	}
	if err := raw.Send(string(text)); err != nil {
		return err
	}
	for waiting := len(c.record.Groups); ; {
		text, err := raw.Next(0)
		if err != nil {
			return err
		}
		if c.take(text, time.Now()) {
			if waiting--; waiting == 0 || !c.positions {
				c.subscribed(first)
			}
		}
	}
}

// subscribed records that the subscriptions are in effect. After a reconnect, events until now may be missing.
func (c *Client) subscribed(first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready = true
	if !first {
		c.record.Notices = append(c.record.Notices, judge.Notice{At: time.Now(), Kind: "reconnected"})
	}
}

// take records a frame and reports whether it answers a subscription.
func (c *Client) take(text string, now time.Time) (subscribed bool) {
	if _, rest, ok := strings.Cut(text, `"mesh"`); ok {
		c.event(rest, now)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case text == resyncFrame:
		c.record.Notices = append(c.record.Notices, judge.Notice{At: now, Kind: "resync"})
	case strings.HasPrefix(text, `{"type":"gap"`):
		c.record.Notices = append(c.record.Notices, judge.Notice{At: now, Kind: "gap"})
	case strings.HasPrefix(text, `{"type":"subscribed"`), !c.positions && strings.HasPrefix(text, `{"groups_current"`):
		return true
	case strings.Contains(text, `"error"`):
		c.site.t.Errorf("%s: %.300s", c.record.Name, text)
	}
	return false
}

// event records an event whose text goes on with the value of "mesh", such as : "2 1024".
func (c *Client) event(rest string, now time.Time) {
	parts := strings.SplitN(rest, `"`, 3)
	var emitter, n int
	index, number, ok := strings.Cut(parts[min(1, len(parts)-1)], " ")
	emitter, err := strconv.Atoi(index)
	if err == nil {
		n, err = strconv.Atoi(number)
	}
	if !ok || err != nil {
		c.site.t.Errorf("%s: an event of no emitter: %.100q", c.record.Name, rest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record.Deliveries = append(c.record.Deliveries, judge.Delivery{Emitter: emitter, N: n, At: now})
	key := [2]int{emitter, n % c.site.options.Groups}
	c.newest[key] = max(c.newest[key], n)
}

// has returns an error unless the client has the event with a number, or a later one, of each emitter and group.
func (c *Client) has(emitter, last int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.record.Groups {
		if n, ok := c.newest[[2]int{emitter, g}]; !ok || n < last-(last-g)%c.site.options.Groups && last >= g {
			return fmt.Errorf("%s has event %d of emitter %d and group %d, the last is %d", c.record.Name, n, emitter, g, last)
		}
	}
	return nil
}

// subscribedNow returns an error unless the subscriptions are in effect.
func (c *Client) subscribedNow() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready {
		return nil
	}
	return fmt.Errorf("%s is not subscribed: %w", c.record.Name, errors.Join(errors.New("no answer"), c.failed))
}

// lastNotice returns the time of the last notice.
func (c *Client) lastNotice() (at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.record.Notices); n > 0 {
		at = c.record.Notices[n-1].At
	}
	return at
}

// observed returns a copy of the record.
func (c *Client) observed() judge.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.record
	r.Deliveries = r.Deliveries[:len(r.Deliveries):len(r.Deliveries)]
	r.Notices = r.Notices[:len(r.Notices):len(r.Notices)]
	r.Closed = r.Closed[:len(r.Closed):len(r.Closed)]
	return r
}
