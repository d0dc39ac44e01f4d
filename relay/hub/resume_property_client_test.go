package hub_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// trialClient is a client and what it may expect.
type trialClient struct {
	trial        *trial
	session      *hub.Session
	socket       *paceSocket
	class        uint8
	classAt      int // frames sent before the last change of class
	read         int // frames read
	last         []relay.Position
	covered      bool
	owed         map[string]bool // published since the client was covered, and not received
	reclassified map[string]bool // owed when the class last changed
	has          map[string]bool

	// of the connection
	sent   map[relay.Position]bool // by the relay, or listed by the client
	replay int                     // frames that are left
	begun  bool
	asked  bool
	order  int // delivery of the last live event
	base   relay.Position
	latest relay.Position // of the last replayed event
}

func (c *trialClient) connect() {
	tr := c.trial
	c.socket = &paceSocket{window: relay.NewWindow(relay.MaxWindowBits, tr.seed%4 == 0)}
	c.socket.inflater.Forgets = tr.seed%4 != 0
	c.session = tr.h.Open(c.socket, relay.Identity{ID: "1"}, netip.Addr{})
	c.session.OptIn()
	c.sent, c.replay, c.begun, c.order, c.read, c.classAt = map[relay.Position]bool{}, 0, false, 0, 0, 0
	sub := relay.Subscription{Group: "h-1", Class: c.class}
	if c.asked = len(c.last) > 0; c.asked {
		c.base = c.last[len(c.last)-1]
		sub.Resume = &relay.Resume{After: slices.Clone(c.last)}
		for _, p := range c.last {
			c.sent[p] = true
		}
	} else if tr.r.IntN(3) == 0 {
		sub.Resume = &relay.Resume{Latest: 1 + tr.r.IntN(5)}
	}
	c.subscribe(sub)
}

func (c *trialClient) subscribe(sub relay.Subscription) {
	change, err := c.session.Subscribe(context.Background(), []relay.Subscription{sub})
	if err != nil {
		c.trial.t.Fatal(err)
	}
	c.session.SendChange(change, func(relay.Change) []byte { return []byte("current") })
}

func (c *trialClient) disconnect() {
	c.session.Close()
	c.session = nil
}

// take reads frames, and checks them.
func (c *trialClient) take() {
	frames, closed := c.socket.read()
	for _, f := range frames {
		c.read++
		c.check(string(f))
	}
	if closed {
		c.disconnect()
	}
}

func (c *trialClient) fail(format string, args ...any) {
	c.trial.t.Errorf("seed %d: %s", c.trial.seed, fmt.Sprintf(format, args...))
}

func (c *trialClient) check(frame string) {
	fields := strings.Split(frame, " ")
	switch fields[0] {
	case "current":
	case "subscribed":
		c.checkBeginning(fields)
	case "gap":
		if !c.begun {
			c.fail("a gap before the subscription")
		}
		for id := range c.owed {
			if c.trial.events[id].lost || c.reclassified[id] { // the gap may stand for several losses
				delete(c.owed, id)
			}
		}
		c.setPosition(fields[2])
	case "event":
		c.checkEvent(fields)
	default:
		c.fail("frame %q", frame)
	}
}

func (c *trialClient) checkBeginning(fields []string) {
	if c.begun {
		c.fail("%q comes again", fields)
	}
	c.begun = true
	c.replay, _ = strconv.Atoi(fields[4])
	c.latest = relay.Position{}
	if reason := fields[3]; reason != "ok" {
		if reason != "-" && !c.mayFail(relay.NotRecovered(reason)) {
			c.fail("not recovered: %s", reason)
		}
		c.owed = map[string]bool{}
		c.last = nil
	}
	c.covered = fields[2] != "-"
	c.setPosition(fields[2])
}

// mayFail reports whether the reason is one of the history's, or of an outage.
func (c *trialClient) mayFail(reason relay.NotRecovered) bool {
	return reason == relay.NotRecoveredUnknown || reason == relay.NotRecoveredGap ||
		reason == relay.NotRecoveredUnavailable
}

func (c *trialClient) setPosition(token string) {
	if p, err := relay.ParsePosition(token); err == nil {
		c.last = append(c.last, p)
		c.last = c.last[max(0, len(c.last)-c.trial.keep()):]
	}
}

// keep is the number of positions that clients list.
func (tr *trial) keep() int { return 1 + int(tr.seed%40) }

func (c *trialClient) checkEvent(fields []string) {
	id, class, rendered := strings.Cut(fields[3], ".")
	p, err := relay.ParsePosition(fields[2])
	ev := c.trial.events[id]
	if err != nil || ev == nil {
		c.fail("event %q: %v", fields, err)
		return
	}
	if rendered && c.read > c.classAt && class != strconv.Itoa(int(c.class)) {
		c.fail("%s for class %s came to class %d", id, class, c.class)
	}
	if !c.begun {
		c.fail("%s came before the subscription", id)
	}
	if c.sent[p] {
		c.fail("%s came again, or the client has listed it", id)
	}
	c.sent[p] = true
	if c.replay > 0 {
		c.replay--
		if p.Compare(c.latest) <= 0 {
			c.fail("%s is out of order in the replay", id)
		}
		c.latest = p
	} else {
		if ev.delivered < c.order {
			c.fail("%s is out of order in the live stream", id)
		}
		c.order = ev.delivered
	}
	delete(c.owed, id)
	c.has[id] = true
	c.setPosition(fields[2])
}
