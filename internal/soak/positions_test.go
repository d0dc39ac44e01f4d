//go:build soak

package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/oracle"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// resuming is a part: numbered events of one emitter, and clients of every door that resume by their positions on the
// given nodes. They must miss no event without being told, and get none twice.
type resuming struct {
	s           *site
	name        string
	kind, route string // of the clients' groups
	groups      int
	doors       []oracle.Door
	each        int // clients of each door
	nodes       func() []string
	// lossless: no fault that the node suffers may cost an event.
	lossless bool
	publish  func(numbered) error
	more     func() []count // of the publisher, or nil
	told     string         // a loss, by its reason, that clients must be told of; or empty
	plays    int
	total    oracle.Tally
}

// numbered is an event. Emitters have another name in each play.
type numbered struct {
	emitter        string
	play, group, n int
	text           []byte
}

// eventsPerSecond is the rate of a part's emitter.
const eventsPerSecond = 50

func (p *resuming) run(ctx context.Context) {
	p.plays++
	o := oracle.New()
	o.Near = p.s.trouble.near
	clients := p.open(o)
	var running, traffic sync.WaitGroup
	for _, c := range clients {
		running.Go(c.Run)
	}
	p.await(time.Minute, "the subscriptions", func() error {
		for _, c := range clients {
			if err := c.Ready(); err != nil {
				return err
			}
		}
		return nil
	})
	for i, c := range clients {
		if i%3 == 0 {
			traffic.Go(func() { churn(ctx, c, uint64(i)) })
		}
	}
	traffic.Go(func() { p.emit(ctx, o) })
	traffic.Wait()
	p.await(testkit.Scale(time.Minute), "the last events", func() error { return o.Behind(clients) })
	for _, c := range clients {
		c.Stop()
	}
	running.Wait()
	for _, c := range clients {
		c.Judge()
	}
	for _, f := range o.Faults() {
		p.s.t.Errorf("%s: %s", p.name, f)
	}
	p.add(o.Total())
	if t := o.Total(); p.lossless && t.Gaps+t.NotRecovered > 0 {
		p.s.fault("%s: %d gaps, and %d clients could not resume, although no fault costs events: %v", p.name, t.Gaps,
			t.NotRecovered, t.Reasons)
	}
}

// await polls outside of the test's goroutine.
func (p *resuming) await(limit time.Duration, what string, check func() error) {
	if err := testkit.Poll(limit, nil, check); err != nil {
		p.s.t.Logf("%s: %s: not within %v: %v", p.name, what, limit, err)
	}
}

// open returns the clients.
func (p *resuming) open(o *oracle.Oracle) (clients []*oracle.Client) {
	for i := range p.each * len(p.doors) {
		own := []int{i % p.groups}
		if p.route == "" {
			own = append(own, (i+p.groups/2)%p.groups)
		}
		// Of each door, every other client lists the positions that it has.
		c := oracle.NewClient(o, i/len(p.doors)*10+i%10, own, p.nodes)
		c.Door, c.Kind, c.Route = p.doors[i%len(p.doors)], p.kind, p.route
		clients = append(clients, c)
	}
	return clients
}

// churn cuts a client at random, about once every three seconds.
func churn(ctx context.Context, c *oracle.Client, seed uint64) {
	for chance := rand.New(rand.NewPCG(seed, 2)); ctx.Err() == nil; {
		testkit.Pause(ctx.Done(), time.Duration(500+chance.IntN(5000))*time.Millisecond)
		c.Cut()
	}
}

// emit publishes events to the groups in turn. Half of them are long enough to be compressed.
func (p *resuming) emit(ctx context.Context, o *oracle.Oracle) {
	tick := time.NewTicker(time.Second / eventsPerSecond)
	defer tick.Stop()
	failed, reason := 0, error(nil)
	defer func() {
		if failed > 0 {
			p.s.t.Logf("%s: %d events may not have been published: %v", p.name, failed, reason)
		}
	}()
	for i := 0; ctx.Err() == nil; i++ {
		e := numbered{emitter: fmt.Sprint("emitter ", p.plays), play: p.plays, group: i % p.groups, n: i / p.groups}
		e.text = fmt.Appendf(nil, `{"emitter": %q, "group": %d, "n": %d, "pad": %q}`, e.emitter, e.group, e.n,
			strings.Repeat("x", i%2*700))
		err := p.publish(e)
		if err != nil {
			failed, reason = failed+1, err
		}
		o.Published(e.emitter, e.group, e.n, err == nil)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (p *resuming) add(t oracle.Tally) {
	p.total.Published += t.Published
	p.total.Received += t.Received
	p.total.Reconnects += t.Reconnects
	p.total.Recovered += t.Recovered
	p.total.NotRecovered += t.NotRecovered
	p.total.Gaps += t.Gaps
	p.total.FalseAlarms += t.FalseAlarms
	if p.total.Doors == nil {
		p.total.Doors, p.total.Reasons = map[string]int{}, map[string]int{}
	}
	for door, n := range t.Doors {
		p.total.Doors[door] += n
	}
	for reason, n := range t.Reasons {
		p.total.Reasons[reason] += n
	}
}

// losses describes the losses that clients were told of.
func (p *resuming) losses() string {
	var reasons []string
	for reason, n := range p.total.Reasons {
		reasons = append(reasons, fmt.Sprint(reason, " ", n))
	}
	slices.Sort(reasons)
	return fmt.Sprintf("%s: told of losses: %s; %d times of one that was none", p.name, strings.Join(reasons, ", "),
		p.total.FalseAlarms)
}

func (p *resuming) work() []count {
	counts := []count{
		{name: p.name + ": events", n: int64(p.total.Published)},
		{name: "reconnects", n: int64(p.total.Reconnects)},
		{name: "resumed", n: int64(p.total.Recovered)},
	}
	for _, d := range p.doors {
		counts = append(counts, count{name: "by " + d.Name, n: int64(p.total.Doors[d.Name])})
	}
	if p.told != "" {
		counts = append(counts, count{name: "told of a " + p.told, n: int64(p.total.Reasons[p.told])})
	}
	if p.more != nil {
		counts = append(counts, p.more()...)
	}
	return counts
}

// resumingParts are the histories of every kind, and the backplane in both directions.
func (s *site) resumingParts() []part {
	all := []oracle.Door{
		oracle.WebSocket, oracle.Compressed(s.t, false), oracle.Compressed(s.t, true), oracle.EventStream(false),
		oracle.EventStream(true), oracle.LongPoll,
	}
	near, far := s.emitter(s.store), s.emitter(s.elsewhere)
	to := func(b *redis.Broker, kind string) func(numbered) error {
		return func(e numbered) error {
			_, err := b.Publish(context.Background(), fmt.Sprint(kind, "-", e.group), e.text)
			return err
		}
	}
	ring := &publisher{s: s}
	return []part{
		&resuming{
			s: s, name: "history in Redis", kind: "inventory_update_events", groups: 8, doors: all, each: 3,
			nodes: s.up(s.relay, s.near), publish: to(near, "inventory_update_events"), told: "gap operator",
		},
		&resuming{
			s: s, name: "backplane to far clients", kind: "project_update_events", groups: 6, doors: all, each: 2,
			nodes: s.up(s.far), publish: to(near, "project_update_events"),
		},
		&resuming{
			s: s, name: "backplane from far emitters", kind: "workflow_events", groups: 4, doors: all[:1], each: 4,
			nodes: s.up(s.relay), publish: to(far, "workflow_events"),
		},
		&resuming{
			s: s, name: "routes' typed messages", kind: "feed", route: "/ws/feed/", groups: 4, doors: all[3:], each: 2,
			nodes: s.up(s.relay, s.near), publish: func(e numbered) error {
				_, err := near.PublishMessage(context.Background(), relay.Message{
					Group: fmt.Sprint("feed_", e.group), Type: "soak.event", Text: e.text,
				})
				return err
			},
		},
		&resuming{
			s: s, name: "history in memory", kind: "system_job_events", groups: 4, doors: all, each: 2, lossless: true,
			nodes: s.up(s.ring), publish: ring.publish, more: ring.work,
		},
	}
}
