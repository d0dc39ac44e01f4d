package hub_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// modelHistory is a history as a sorted set beside the layer keeps it: ordered by the emitters' clocks.
type modelHistory struct {
	mu      sync.Mutex
	entries []modelEntry // in the order of positions
	failing bool
	slow    time.Duration // of a read
	reads   int
	made    uint64 // marks of positions without an event
	floor   int64  // greatest Micros of a trimmed event or gap
}

type modelEntry struct {
	position relay.Position
	text     []byte
	isEvent  bool
	isGap    bool
}

func (m *modelHistory) Limits(group string) (relay.HistoryLimits, bool) {
	return relay.DefaultHistoryLimits, group == "h-1"
}

func (m *modelHistory) Record([]relay.Event)        {}
func (m *modelHistory) Joined([]string)             {}
func (m *modelHistory) Left([]string)               {}
func (m *modelHistory) Close(context.Context) error { return nil }

func (m *modelHistory) add(e modelEntry) {
	at, _ := slices.BinarySearchFunc(m.entries, e, func(a, b modelEntry) int { return a.position.Compare(b.position) })
	m.entries = slices.Insert(m.entries, at, e)
}

// store stores an event, as the layer does.
func (m *modelHistory) store(p relay.Position, text []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(modelEntry{position: p, text: text, isEvent: true})
}

// trim keeps the last n entries, and the position of the one before.
func (m *modelHistory) trim(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if cut := len(m.entries) - n; cut > 1 {
		for _, e := range m.entries[:cut] {
			if e.isEvent || e.isGap {
				m.floor = max(m.floor, e.position.Micros)
			}
		}
		m.entries = slices.Delete(m.entries, 0, cut-1)
		m.entries[0].isEvent, m.entries[0].text = false, nil
	}
}

func (m *modelHistory) wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		m.floor = max(m.floor, e.position.Micros)
	}
	m.entries = nil
}

func (m *modelHistory) newPosition() relay.Position {
	m.made++
	return relay.Position{Micros: time.Now().UnixMicro(), Mark: m.made<<32 | 7}
}

func (m *modelHistory) MarkGap(relay.Loss) relay.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.newPosition()
	m.add(modelEntry{position: p, isGap: true})
	return p
}

func (m *modelHistory) Read(_ context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	m.mu.Lock()
	slow := m.slow
	m.mu.Unlock()
	time.Sleep(slow)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	pages := make([]relay.HistoryPage, len(queries))
	for i, q := range queries {
		if pages[i] = m.read(q); m.failing {
			pages[i] = relay.HistoryPage{Err: errors.New("the model cannot be read")}
		}
	}
	return pages
}

func (m *modelHistory) read(q relay.HistoryQuery) (p relay.HistoryPage) {
	entries := m.entries // those in the mailbox, too
	p.Resumable = make([]error, len(q.After))
	from := int64(1 << 62)
	for i, after := range q.After {
		at := slices.IndexFunc(entries, func(e modelEntry) bool { return e.position == after })
		// An emitter with another clock may have published a trimmed event after the position.
		if at < 0 || m.floor >= after.Micros-relay.HistorySlack {
			p.Resumable[i] = relay.NotRecoveredUnknown
			continue
		}
		for _, e := range entries {
			if e.isGap && e.position != after && e.position.Micros+relay.HistorySlack >= after.Micros {
				p.Resumable[i] = relay.NotRecoveredGap
			}
		}
		if p.Resumable[i] == nil {
			from = min(from, after.Micros-relay.HistorySlack)
		}
	}
	latest := q.Latest
	for i := len(entries) - 1; i >= 0 && (latest > 0 || entries[i].position.Micros >= from); i-- {
		if e := entries[i]; e.isEvent {
			latest--
			p.Events = append(p.Events, relay.Event{
				Group: q.Group, Text: e.text, Position: e.position, Source: relay.FromHistory,
			})
		}
	}
	slices.Reverse(p.Events)
	if len(entries) == 0 {
		e := modelEntry{position: m.newPosition()}
		m.add(e)
		entries = append(entries, e)
	}
	p.Head = entries[len(entries)-1].position
	return p
}

// paceSocket is a socket whose client reads when the test says so.
type paceSocket struct {
	discard
	window   relay.Window
	inflater relaytest.Inflater

	mu      sync.Mutex
	queue   [][]byte // frames
	queued  int      // bytes
	sent    int      // frames
	closed  bool
	blocked bool // the client does not read: its kernel takes nothing
}

func (s *paceSocket) Send(frames []byte, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.blocked && s.queued > 0 && s.queued+len(frames) > limit {
		s.closed = true
		return false
	}
	for len(frames) > 0 {
		head, n := 2, int(frames[1])
		if n == 126 {
			head, n = 4, int(frames[2])<<8|int(frames[3])
		}
		text := slices.Clone(frames[head : head+n])
		if frames[0]&0x40 != 0 {
			var err error
			if text, err = s.inflater.Message(text); err != nil {
				panic(err)
			}
		}
		s.queue = append(s.queue, text)
		s.queued += head + n
		s.sent++
		frames = frames[head+n:]
	}
	return true
}

func (s *paceSocket) Deflates() bool { return s.window.Deflates() }

func (s *paceSocket) Choose(c *relay.Compressed) relay.Form { return s.window.Choose(c) }

func (s *paceSocket) SendCopy(frames []byte, limit int) bool { return s.Send(frames, limit) }

func (s *paceSocket) Waiting() (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocked {
		return s.queued, false
	}
	return 0, false
}

func (s *paceSocket) Close(int, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// read returns the frames that have arrived.
func (s *paceSocket) read() (frames [][]byte, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	frames, s.queue, s.queued = s.queue, nil, 0
	return frames, s.closed
}
