package sortedset_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay"
)

// Random emitters with different clocks, nodes, clients that move between them, removals, losses, wipes and deaths of
// nodes: no client that is told that its events are complete lacks one.
func TestModel(t *testing.T) {
	server := peers.StartRedis(t)
	resumed, refused := 0, 0
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			server.Do("FLUSHALL")
			m := &model{T: t, Rand: rand.New(rand.NewPCG(seed, 1)), server: server, clock: newClock()}
			m.kind = seed % 4
			m.count, m.skew = 4<<m.IntN(6), time.Duration(10<<m.IntN(7))
			for range 3 {
				m.nodes = append(m.nodes, m.start())
			}
			for range 6 {
				m.clients = append(m.clients, &modelClient{})
			}
			for range 400 {
				m.step()
				if t.Failed() {
					return
				}
			}
			resumed += m.resumed
			refused += m.refused
		})
	}
	t.Logf("%d resumed, %d refused", resumed, refused)
	if resumed < refused/4 {
		t.Errorf("only %d of %d clients could resume", resumed, resumed+refused)
	}
}

type model struct {
	*testing.T
	*rand.Rand
	server  *peers.Redis
	clock   *clock
	count   int
	kind    uint64        // of faults
	skew    time.Duration // half the greatest difference between clocks, in milliseconds
	nodes   []*modelNode
	clients []*modelClient
	emitted []modelEvent
	copy    string // of the group's set, at some time

	resumed, refused int
}

type modelEvent struct {
	text string
	at   time.Time
}

// modelNode is a node with a mailbox, which is in Redis: it survives the node, but not a wipe.
type modelNode struct {
	*node
	mailbox   []modelEvent
	unwritten []relay.Event   // delivered; in flight
	dropped   map[string]bool // from the mailbox, and no gap was marked yet
}

// modelClient is a client, or one that is away.
type modelClient struct {
	node    *modelNode
	known   bool // it has a position
	base    relay.Position
	got     map[string]bool
	first   int // the first event that it must get
	excused map[string]bool
}

func (m *model) start() *modelNode {
	n := newNode(m.T, m.server, m.clock, withLimits(relay.HistoryLimits{Count: m.count, Bytes: 1 << 20, Age: 20 * time.Second}))
	n.Joined([]string{"job1"})
	return &modelNode{node: n, dropped: map[string]bool{}}
}

func (m *model) any() *modelNode { return m.nodes[m.IntN(len(m.nodes))] }

func (m *model) step() {
	switch d := m.IntN(200); {
	case d < 70:
		m.emit()
	case d < 110:
		m.drain(m.any())
	case d < 130:
		c := m.clients[m.IntN(len(m.clients))]
		if c.node = nil; m.IntN(3) > 0 {
			m.subscribe(c)
		}
	case d < 150:
		m.clock.advance(time.Duration(m.IntN(1500)) * time.Millisecond)
	case d < 180:
		for _, n := range m.nodes { // No node is behind by a whole history.
			m.drain(n)
		}
		m.any().tick()
	case d < 183:
		m.save()
	case d < 187:
		m.fault()
	}
}

// fault does what the seed's kind of fault is: with all kinds at once, few clients could resume.
func (m *model) fault() {
	switch m.kind {
	case 1:
		n := m.any()
		for range min(len(n.mailbox), m.IntN(3)) {
			n.dropped[n.mailbox[len(n.mailbox)-1].text] = true
			n.mailbox = n.mailbox[:len(n.mailbox)-1]
		}
	case 2:
		m.kill(m.IntN(len(m.nodes)))
	case 3:
		m.lose()
	}
}

// emit sends events from emitters whose clocks differ.
func (m *model) emit() {
	for range 1 + m.IntN(4) {
		m.clock.advance(time.Duration(m.IntN(30_000)) * time.Microsecond)
		skew := []time.Duration{0, 0, 0, 0, 50, -50, m.skew, -m.skew}[m.IntN(8)] * time.Millisecond
		ev := modelEvent{fmt.Sprint("e", len(m.emitted)), m.clock.now().Add(skew)}
		m.emitted = append(m.emitted, ev)
		for _, n := range m.nodes {
			n.mailbox = append(n.mailbox, ev)
		}
	}
}

// drain writes the delivered events, takes the mailbox, and delivers.
func (m *model) drain(n *modelNode) {
	n.write(n.unwritten...)
	n.unwritten = nil
	slices.SortStableFunc(n.mailbox, func(a, b modelEvent) int { return a.at.Compare(b.at) })
	for _, ev := range n.mailbox {
		n.unwritten = append(n.unwritten, n.event("job1", ev.text, ev.at))
	}
	n.mailbox = nil
	for _, ev := range n.unwritten {
		for _, c := range m.clients {
			if c.node == n {
				c.got[string(ev.Text)] = true
				c.base = ev.Position
			}
		}
	}
	m.tell(n, relay.Loss{Groups: []string{"job1"}})
}

// tell marks a gap for the dropped events of a node.
func (m *model) tell(n *modelNode, l relay.Loss) {
	if len(n.dropped) == 0 {
		return
	}
	at := n.MarkGap(l)
	for _, c := range m.clients {
		if c.node == n {
			c.base = at
			for text := range n.dropped {
				c.excused[text] = true
			}
		}
	}
	n.dropped = map[string]bool{}
	if m.IntN(3) > 0 { // Run is quick.
		if err := n.Close(context.Background()); err != nil {
			m.Fatal(err)
		}
	}
}

// peek adds the events in all mailboxes, as a layer does before a read.
func (m *model) peek(by *modelNode) {
	var events []relay.Event
	for _, n := range m.nodes {
		events = append(events, n.unwritten...)
		for _, ev := range n.mailbox {
			events = append(events, by.event("job1", ev.text, ev.at))
		}
		if n != by && len(n.dropped) > 0 { // Its mailbox is full.
			by.MarkGap(relay.Loss{Groups: []string{"job1"}})
		}
	}
	if err := by.Add(context.Background(), 0, events); err != nil {
		m.Fatal(err)
	}
}

func (m *model) subscribe(c *modelClient) {
	n := m.any()
	m.tell(n, relay.Loss{Groups: []string{"job1"}})
	m.peek(n)
	q := relay.HistoryQuery{Group: "job1", Latest: m.IntN(3)}
	if c.known {
		q.After = []relay.Position{c.base}
	}
	p := n.query(q)
	if !slices.IsSortedFunc(p.Events, func(a, b relay.Event) int { return a.Position.Compare(b.Position) }) {
		m.Errorf("not in order: %s", texts(p))
	}
	switch {
	case c.known && p.Resumable[0] == nil:
		m.resumed++
		for _, ev := range p.Events {
			if ev.Position.Micros >= c.base.Micros-relay.HistorySlack {
				c.got[string(ev.Text)] = true
			}
		}
		for i, ev := range m.emitted[c.first:] {
			if !c.got[ev.text] && !c.excused[ev.text] {
				m.Errorf("%s of %v (event %d) is missing from %v on; first %d, got %s", ev.text, ev.at.UnixMicro(), c.first+i,
					c.base.Micros, c.first, texts(p))
				return
			}
		}
	default:
		if c.known {
			m.refused++
		}
		c.got, c.excused, c.first = map[string]bool{}, map[string]bool{}, len(m.emitted)
	}
	c.base, c.known, c.node = p.Head, true, n
}

// kill replaces a node. Its mailbox is adopted.
func (m *model) kill(i int) {
	dead, next := m.nodes[i], m.start()
	for _, c := range m.clients {
		if c.node == dead {
			c.node = nil
		}
	}
	m.nodes[i] = next
	next.dropped = dead.dropped
	m.nodes = append(m.nodes, &modelNode{node: dead.node, mailbox: dead.mailbox, unwritten: dead.unwritten})
	m.peek(next)
	m.nodes = m.nodes[:len(m.nodes)-1]
	m.tell(next, relay.Loss{Groups: []string{"job1"}})
}

// lose deletes keys. With everything, the mailboxes are gone, and an older copy of the history may come back.
func (m *model) lose() {
	const prefix = "edgerelay:history:asgi:"
	if m.IntN(3) > 0 {
		m.server.Do("DEL", prefix+[]string{"key", "run", "gaps"}[m.IntN(3)])
		return
	}
	if m.copy != "" && m.IntN(2) == 0 { // A restart, or a replica that was behind.
		m.server.Do("RESTORE", prefix+"g:job1", 0, m.copy, "REPLACE")
		m.server.Do("SET", prefix+"run", "former")
	} else {
		m.server.Do("FLUSHALL")
	}
	told := m.IntN(2) == 0
	for _, n := range m.nodes {
		for _, ev := range n.mailbox {
			n.dropped[ev.text] = true
		}
		n.mailbox, n.unwritten = nil, nil
	}
	for _, c := range m.clients {
		if !told {
			c.node = nil
		}
	}
	for _, n := range m.nodes {
		if told {
			m.tell(n, relay.Loss{All: true})
		}
		n.dropped = map[string]bool{}
	}
}

// save keeps a copy of the history.
func (m *model) save() {
	client := m.server.Client()
	defer client.Close()
	m.copy = client.Dump(context.Background(), "edgerelay:history:asgi:g:job1").Val()
}
