package hub_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// inflating is the socket of a client that decodes what it gets with a window of its own, when the test asks: a slow
// client has everything in its queue until then.
type inflating struct {
	discard
	window   relay.Window
	inflater relaytest.Inflater

	mu         sync.Mutex
	buffers    [][]byte
	dead       bool
	compressed int // messages
}

func newInflating(bits int, kept bool) *inflating {
	return &inflating{
		window: relay.NewWindow(bits, kept), inflater: relaytest.Inflater{Bits: bits, Forgets: !kept},
	}
}

func (s *inflating) Deflates() bool { return s.window.Deflates() }

func (s *inflating) Choose(c *relay.Compressed) relay.Form { return s.window.Choose(c) }

func (s *inflating) Send(frames []byte, _ int) bool { return s.send(frames) }

func (s *inflating) SendCopy(frames []byte, _ int) bool { return s.send(slices.Clone(frames)) }

func (s *inflating) send(frames []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dead {
		s.buffers = append(s.buffers, frames)
	}
	return !s.dead
}

func (s *inflating) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
}

// texts decodes what has arrived.
func (s *inflating) texts() (texts []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, frames := range s.buffers {
		for len(frames) > 0 {
			head, n := 2, int(frames[1])
			switch n {
			case 126:
				head, n = 4, int(binary.BigEndian.Uint16(frames[2:]))
			case 127:
				head, n = 10, int(binary.BigEndian.Uint64(frames[2:]))
			}
			text := frames[head : head+n]
			switch frames[0] {
			case 0xc1:
				s.compressed++
				if text, err = s.inflater.Message(text); err != nil {
					return nil, err
				}
			case 0x81:
			default:
				return nil, fmt.Errorf("a frame begins with %#x", frames[0])
			}
			texts = append(texts, string(text))
			frames = frames[head+n:]
		}
	}
	s.buffers = nil
	return texts, nil
}

// modelClient is a client of the model, with the texts that it must get, by group.
type modelClient struct {
	name    string
	session *hub.Session
	socket  *inflating
	frame   func(group, text string) string // of its protocol
	groups  map[string]uint8                // with its class
	want    map[string][]string
	dead    bool
}

// deflateModel knows what each client must get.
type deflateModel struct {
	t       *testing.T
	h       *hub.Hub
	r       *rand.Rand
	formats []*prefixed
	clients []*modelClient
	made    int
	counted uint64 // deliveries
	perKind map[string]int
}

var modelGroups = []string{"job_events-1", "job_events-2", "jobs-status_changed", "secret-1"}

// open opens a client of a random kind.
func (m *deflateModel) open() {
	socket, name := newInflating(15, true), "usual"
	switch m.r.IntN(6) {
	case 0:
		socket, name = &inflating{}, "not agreed"
	case 1:
		socket, name = newInflating(15, false), "no takeover"
	case 2:
		socket, name = newInflating(9+m.r.IntN(4), true), "small window"
	}
	c := &modelClient{
		name: name, socket: socket, groups: map[string]uint8{}, want: map[string][]string{},
		frame: func(_, text string) string { return text },
	}
	reservation, err := m.h.Admit(netip.Addr{})
	if err == nil {
		err = reservation.Identify(relay.Identity{ID: "1", Key: "1"})
	}
	if err != nil {
		m.t.Fatal(err)
	}
	switch m.r.IntN(4) {
	case 0:
		format := m.formats[m.r.IntN(len(m.formats))]
		c.session = reservation.OpenAs(socket, format)
		c.frame = func(group, text string) string { return fmt.Sprintf("%s %s  %s", format.name, group, text) }
		c.name += ", format " + format.name
	case 1:
		c.session = reservation.Open(socket)
		c.session.OptIn()
		c.frame = func(group, text string) string { return fmt.Sprintf("event %s - %s", group, text) }
		c.name += ", positions"
	default:
		c.session = reservation.Open(socket)
	}
	m.made++
	m.clients = append(m.clients, c)
}

// change gives a client other groups and classes.
func (m *deflateModel) change(c *modelClient) {
	var subs []relay.Subscription
	clear(c.groups)
	for _, group := range modelGroups {
		if m.r.IntN(3) > 0 {
			class := uint8(m.r.IntN(3))
			c.groups[group] = class
			subs = append(subs, relay.Subscription{Group: group, Class: class})
		}
	}
	change, err := c.session.Subscribe(context.Background(), subs)
	if err != nil {
		m.t.Fatal(err)
	}
	c.session.SendChange(change, func(relay.Change) []byte { return nil })
}

// deliver delivers events of some groups at once, in one goroutine for each group.
func (m *deflateModel) deliver() {
	var emitters sync.WaitGroup
	defer emitters.Wait()
	for _, group := range modelGroups {
		if m.r.IntN(2) == 0 {
			continue
		}
		events := make([]relay.Event, 1+m.r.IntN(5))
		for i := range events {
			events[i] = m.event(group)
		}
		emitters.Go(func() { m.h.Deliver(events) })
	}
}

// event makes an event, and notes who must get it.
func (m *deflateModel) event(group string) relay.Event {
	m.made++
	text := fmt.Sprintf(`{"id": %d, "group": %q, "event": "runner_on_ok", "noise": "%x", "stdout": %q}`,
		m.made, group, m.r.Uint64(), strings.Repeat("changed: [host] ", m.r.IntN(1<<m.r.IntN(10))))
	ev := relay.Event{Group: group, Text: []byte(text)}
	classes := ^uint64(0)
	of := func(uint8) string { return text }
	switch m.r.IntN(4) {
	case 0:
		classes = m.r.Uint64N(8)
		ev.Redaction = &relay.Redaction{Classes: classes}
	case 1:
		classes = 7 &^ (1 << m.r.IntN(4))
		of = func(class uint8) string { return fmt.Sprintf("%s for %d", text, class&1) }
		ev.Redaction = &relay.Redaction{
			Classes: 7,
			Render:  func(class uint8) ([]byte, bool) { return []byte(of(class)), classes>>class&1 != 0 },
		}
	}
	for _, c := range m.clients {
		if class, ok := c.groups[group]; ok && classes>>class&1 != 0 {
			m.counted++
			if !c.dead {
				c.want[group] = append(c.want[group], c.frame(group, of(class)))
			}
		}
	}
	return ev
}

// settle waits until all events have been written.
func (m *deflateModel) settle() {
	testkit.Eventually(m.t, "all deliveries", func() bool {
		s := m.h.Stats()
		return s.Deliveries+s.Missed >= m.counted
	})
}

// check compares what a client has decoded with what it must get.
func (m *deflateModel) check(c *modelClient) {
	texts, err := c.socket.texts()
	if err != nil {
		m.t.Fatalf("%s: %v", c.name, err)
	}
	got := map[string][]string{}
	for _, text := range texts {
		if strings.HasPrefix(text, "subscribed ") {
			continue
		}
		i := slices.IndexFunc(modelGroups, func(group string) bool {
			return strings.Contains(text, fmt.Sprintf(`"group": %q`, group))
		})
		if i < 0 {
			m.t.Fatalf("%s: an unknown text %.100q", c.name, text)
		}
		got[modelGroups[i]] = append(got[modelGroups[i]], text)
	}
	for _, group := range modelGroups {
		if !slices.Equal(got[group], c.want[group]) {
			m.t.Fatalf("%s got %d texts of %s, want %d", c.name, len(got[group]), group, len(c.want[group]))
		}
	}
	clear(c.want)
	if !c.socket.Deflates() && c.socket.compressed > 0 {
		m.t.Fatalf("%s got compressed frames", c.name)
	}
	m.perKind[c.name] += c.socket.compressed
	c.socket.compressed = 0
}

// Clients of all kinds come, go, die, and change groups and classes; groups, classes and settings vary. Each client
// decodes exactly its own events, in the order of each group.
func TestCompressionModel(t *testing.T) {
	before := runtime.GOMAXPROCS(4)
	h, _ := newHub(t) // with four shards
	runtime.GOMAXPROCS(before)
	h.SetProtocol(plainTexts{})
	seed := rand.Uint64()
	m := &deflateModel{
		t: t, h: h, r: rand.New(rand.NewPCG(seed, 1)), perKind: map[string]int{},
		formats: []*prefixed{{name: "A"}, {name: "B"}},
	}
	t.Logf("seed %d", seed)
	settings := []*deflate.Settings{
		{MinSize: 100, Level: 1, Exclude: []string{"secret-*"}}, {MinSize: 1, Level: 5}, nil,
	}
	for step := range 400 {
		if step%100 == 0 {
			if err := h.SetCompression(settings[step/100%len(settings)]); err != nil {
				t.Fatal(err)
			}
		}
		m.deliver()
		switch op := m.r.IntN(8); {
		case op == 0 || len(m.clients) < 8:
			m.settle()
			m.open()
			m.change(m.clients[len(m.clients)-1])
		case op == 1:
			m.settle()
			m.change(m.clients[m.r.IntN(len(m.clients))])
		case op == 2:
			m.settle()
			c := m.clients[m.r.IntN(len(m.clients))]
			c.dead = true
			c.socket.die()
		case op == 3:
			m.settle()
			at := m.r.IntN(len(m.clients))
			m.clients[at].session.Close()
			m.check(m.clients[at])
			m.clients = slices.Delete(m.clients, at, at+1)
		case op == 4:
			m.settle()
			m.check(m.clients[m.r.IntN(len(m.clients))])
		}
	}
	m.settle()
	for _, c := range m.clients {
		m.check(c)
	}
	stats := h.CompressionStats()
	for form, s := range stats.Forms {
		if s.Deliveries == 0 {
			t.Errorf("no client has chosen %s", relay.Form(form))
		}
		if f := relay.Form(form); f != relay.Plain && s.After*10 > s.Before*8 || f == relay.Plain && s.After != s.Before {
			t.Errorf("%s: %d of %d bytes", f, s.After, s.Before)
		}
	}
	if stats.Sessions == 0 {
		t.Error("no session has agreed on compression")
	}
	for name, n := range m.perKind {
		if n == 0 && !strings.HasPrefix(name, "not agreed") {
			t.Logf("%s: no compressed message", name)
		}
	}
}
