package sortedset_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/sortedset"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that a test sets, shared by its nodes.
type clock struct{ micros atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.micros.Store(1_764_378_000_000_000)
	return c
}

func (c *clock) now() time.Time          { return time.UnixMicro(c.micros.Load()) }
func (c *clock) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

// node is a relay's part in the history, without a channel layer.
type node struct {
	*sortedset.Store
	t     testing.TB
	ring  *redisnet.Ring
	clock *clock
}

var limits = relay.HistoryLimits{Count: 100, Bytes: 1 << 20, Age: time.Minute}

// newNode returns a node with its key loaded. change may change the options.
func newNode(t testing.TB, server *peers.Redis, c *clock, change ...func(*sortedset.Options)) *node {
	t.Helper()
	if c == nil {
		c = newClock()
	}
	o := sortedset.Options{
		Prefix: "asgi", Hosts: ring(t, server.URL), Now: c.now,
		Policy: relay.HistoryPolicy{Rules: []relay.HistoryRule{{Pattern: "job*", HistoryLimits: limits}}},
	}
	for _, f := range change {
		f(&o)
	}
	s, err := sortedset.New(o)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{s, t, o.Hosts, c}
	n.load()
	return n
}

func ring(t testing.TB, url string) *redisnet.Ring {
	t.Helper()
	r, err := redisnet.NewRing(redisnet.Hosts{URLs: []string{url}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func eventually(t *testing.T, name string, condition func() bool) {
	t.Helper()
	testkit.Eventually(t, name, condition)
}

func withLimits(l relay.HistoryLimits) func(*sortedset.Options) {
	return func(o *sortedset.Options) { o.Policy.Rules[0].HistoryLimits = l }
}

func pattern(p string) func(*sortedset.Options) {
	return func(o *sortedset.Options) { o.Policy.Rules[0].Pattern = p }
}

// gapBefore marks a gap before a membership, as a layer does.
func (n *node) gapBefore(group string) {
	n.t.Helper()
	commands, err := n.GapCommands(context.Background(), nil, []string{group})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, command := range commands {
		n.do(command)
	}
}

func (n *node) do(command []string) {
	n.t.Helper()
	args := make([]any, len(command))
	for i, a := range command {
		args[i] = a
	}
	if err := n.ring.Client(0).Do(context.Background(), args...).Err(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) load() {
	n.t.Helper()
	if err := n.Load(context.Background(), 0); err != nil {
		n.t.Fatal(err)
	}
}

// event returns an event of the time now, or of another time.
func (n *node) event(group, text string, at ...time.Time) relay.Event {
	if len(at) == 0 {
		at = append(at, n.clock.now())
	}
	ev := relay.Event{Group: group, Text: []byte(text), Sent: at[0]}
	ev.Position = n.Identify(&ev, at[0].UnixMicro())
	return ev
}

// write does what a channel layer does in its pipeline.
func (n *node) write(events ...relay.Event) {
	n.t.Helper()
	pipe := n.ring.Client(0).Pipeline()
	var replies []error
	for _, command := range n.Commands(nil, events) {
		args := make([]any, len(command))
		for i, a := range command {
			args[i] = a
		}
		pipe.Do(context.Background(), args...)
	}
	cmds, _ := pipe.Exec(context.Background())
	for _, c := range cmds {
		replies = append(replies, c.Err())
	}
	n.Wrote(events, replies)
}

// emit writes an event for each text, a millisecond apart, and returns the positions.
func (n *node) emit(group string, texts ...string) (at []relay.Position) {
	n.t.Helper()
	for _, text := range texts {
		n.clock.advance(time.Millisecond)
		ev := n.event(group, text)
		n.write(ev)
		at = append(at, ev.Position)
	}
	return at
}

func (n *node) read(group string, after ...relay.Position) relay.HistoryPage {
	n.t.Helper()
	return n.query(relay.HistoryQuery{Group: group, After: after})
}

func (n *node) query(q relay.HistoryQuery) relay.HistoryPage {
	n.t.Helper()
	p := n.Read(context.Background(), []relay.HistoryQuery{q})[0]
	if p.Err != nil {
		n.t.Fatalf("reading %s: %v (%s)", q.Group, p.Err, n.Trouble())
	}
	return p
}

func (n *node) tick() {
	n.t.Helper()
	if err := n.Tick(context.Background()); err != nil {
		n.t.Fatal(err)
	}
}

func texts(p relay.HistoryPage) string {
	list := []string{}
	for _, ev := range p.Events {
		list = append(list, string(ev.Text))
	}
	return fmt.Sprint(list)
}

// wantResumable compares the answers for the positions of a query.
func wantResumable(t *testing.T, p relay.HistoryPage, want ...error) {
	t.Helper()
	if fmt.Sprint(p.Resumable) != fmt.Sprint(want) {
		t.Errorf("resumable %v, want %v", p.Resumable, want)
	}
}
