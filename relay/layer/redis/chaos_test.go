package redis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// chaos is a site of several nodes that come and go, and the truth about its events.
type chaos struct {
	*testing.T
	rand   *rand.Rand
	wipes  bool
	server *peers.Redis
	nodes  []*keeper
	groups []string

	mu     sync.Mutex
	events map[string][]string // by group, in order of emission
	known  map[string][]relay.Event
	stats  struct{ complete, gaps, unknown, unavailable int }
}

func (c *chaos) emit(stop <-chan struct{}) {
	p := newBroker(c, settings(c.server))
	defer func() { _ = p.Close(context.Background()) }()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(300 * time.Microsecond): // the pace of the emitter
		}
		group := c.groups[i%len(c.groups)]
		text := fmt.Sprintf("<%d>", i)
		if _, err := p.Publish(context.Background(), group, []byte(text)); err != nil {
			continue // The connection was killed, and the event may have been sent or not.
		}
		c.mu.Lock()
		c.events[group] = append(c.events[group], text)
		c.mu.Unlock()
	}
}

// emitted returns the number of events of a group so far.
func (c *chaos) emitted(group string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.events[group])
}

// step lets one thing happen.
func (c *chaos) step() {
	i := c.rand.IntN(len(c.nodes))
	k, group := c.nodes[i], c.groups[c.rand.IntN(len(c.groups))]
	switch c.rand.IntN(12) {
	case 0:
		c.learn(k)
		k.Crash()
		c.nodes[i] = startQuickKeeper(c, settings(c.server))
	case 1:
		c.learn(k)
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		_ = k.Close(ctx)
		cancel()
		c.nodes[i] = startQuickKeeper(c, settings(c.server))
	case 2:
		k.Leave(group)
	case 3:
		release := k.Hold()
		time.AfterFunc(time.Duration(c.rand.IntN(30))*time.Millisecond, release)
	case 4:
		if c.wipes && c.rand.IntN(5) == 0 {
			for _, key := range keys(c.server, "asgi*") {
				c.server.Do("DEL", key)
			}
		}
	case 5:
		c.server.KillClients()
	default:
		c.resume(k, group)
	}
}

// learn notes the positions of events that a node has delivered.
func (c *chaos) learn(k *keeper) {
	events := k.Events()
	if len(events) == 0 {
		return
	}
	for range 3 {
		ev := events[len(events)-1-c.rand.IntN(min(len(events), 400))]
		if !ev.Position.IsZero() {
			c.known[ev.Group] = append(c.known[ev.Group], ev)
		}
	}
}

// resume resumes on a node from an event that some node has delivered, and compares with the truth.
func (c *chaos) resume(k *keeper, group string) {
	for _, other := range c.nodes {
		c.learn(other)
	}
	list := c.known[group]
	if len(list) == 0 {
		c.join(k, group)
		return
	}
	base := list[len(list)-1-c.rand.IntN(min(len(list), 12))]
	c.join(k, group)
	before, delivered, losses := c.emitted(group), len(k.Events()), k.lossesOf(group)
	texts, reason := k.resume(c, group, base.Position)
	switch reason {
	case nil:
		c.stats.complete++
	case relay.NotRecoveredGap:
		c.stats.gaps++
		return
	case relay.NotRecoveredUnknown:
		c.stats.unknown++
		return
	default:
		c.stats.unavailable++
		return
	}
	got := map[string]bool{string(base.Text): true}
	for _, text := range texts {
		got[text] = true
	}
	c.mu.Lock()
	truth := c.events[group][:before]
	c.mu.Unlock()
	from := 0
	for from < len(truth) && truth[from] != string(base.Text) {
		from++
	}
	testkit.Eventually(c, "the events after the position", func() error {
		for _, ev := range k.Events()[delivered:] { // What was not in the page is delivered afterwards.
			if ev.Group == group {
				got[string(ev.Text)] = true
			}
		}
		for _, text := range truth[min(from, len(truth)):] {
			if !got[text] && k.lossesOf(group) == losses { // else the clients are told after the resume
				return fmt.Errorf("a silent hole: %s of %s is missing, %d events behind the position", text, group,
					len(truth)-from)
			}
		}
		return nil
	})
}

func (c *chaos) join(k *keeper, group string) {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := k.Join(ctx, group); err != nil {
		c.Fatal(err)
	}
}

// Nodes are killed, end, join, leave, are slow, and lose their memberships and connections. No resume misses an event
// in silence.
func TestNoSilentHoles(t *testing.T) {
	for _, wipes := range []bool{false, true} {
		t.Run(fmt.Sprint("wipes ", wipes), func(t *testing.T) {
			seed := rand.Uint64()
			t.Log("seed", seed)
			c := &chaos{
				T: t, rand: rand.New(rand.NewPCG(seed, 1)), wipes: wipes, server: peers.StartRedis(t),
				groups: []string{"g", "h", "i"}, events: map[string][]string{}, known: map[string][]relay.Event{},
			}
			for range 3 {
				c.nodes = append(c.nodes, startQuickKeeper(t, settings(c.server), c.groups...))
			}
			stop := make(chan struct{})
			var emitting sync.WaitGroup
			emitting.Go(func() { c.emit(stop) })
			defer emitting.Wait()
			defer close(stop)
			for range 200 {
				c.step()
				if t.Failed() {
					break
				}
			}
			t.Logf("%+v", c.stats)
			if !wipes && c.stats.complete == 0 {
				t.Error("no resume was complete")
			}
		})
	}
}
