package channels

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// Stats counts what happens on the routes of a path. An event counts once for each group, whatever the number of
// clients.
type Stats struct {
	// Connections are open. Opened counts all that have been, Rejected the handshakes that the route rejected.
	Connections      atomic.Int64
	Opened, Rejected atomic.Uint64
	// Events made frames. Ignored events have a rule that sends nothing, Unrendered ones a type without a rule, and
	// Unrenderable ones lack what their rule needs.
	Events, Ignored, Unrendered, Unrenderable atomic.Uint64
	// Published counts messages of clients that went to a group, Malformed those that the rule for messages cannot
	// read, Refused those that the route takes none of or that exceeded the rate, and Dropped the ignored ones.
	// Failed counts messages that the channel layer did not take.
	// Accepted counts messages that changed the client's groups.
	Published, Malformed, Refused, Dropped, Failed, Accepted atomic.Uint64

	unknown, broken typeCounts
}

// Unknown returns the number of events of each type without a rule.
func (s *Stats) Unknown() map[string]uint64 { return s.unknown.all() }

// Broken returns the number of events of each type that its rule could not render.
func (s *Stats) Broken() map[string]uint64 { return s.broken.all() }

// maxTypes bounds the types that are counted apart: anything may emit messages.
const maxTypes = 100

// maxTypeLength bounds the length of a type in logs and metrics.
const maxTypeLength = 100

// OtherTypes stands for all types beyond the first 100.
const OtherTypes = "other"

// typeCounts counts events by type.
type typeCounts struct {
	mu     sync.Mutex
	counts map[string]uint64
}

// add counts an event and reports whether it is the first of its type. kind is the type under which it is counted.
func (t *typeCounts) add(typ string) (first bool, kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]uint64{}
	}
	typ = typ[:min(len(typ), maxTypeLength)]
	switch _, known := t.counts[typ]; {
	case known:
	case len(t.counts) >= maxTypes:
		typ = OtherTypes
	default:
		typ = strings.Clone(typ) // a part of a large message, perhaps
	}
	t.counts[typ]++
	return t.counts[typ] == 1, typ
}

func (t *typeCounts) all() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		return map[string]uint64{}
	}
	return maps.Clone(t.counts)
}

// EventResults returns the numbers of events by result.
func (s *Stats) EventResults() map[string]uint64 {
	return map[string]uint64{
		"rendered": s.Events.Load(), "ignored": s.Ignored.Load(), "no_rule": s.Unrendered.Load(),
		"unrenderable": s.Unrenderable.Load(),
	}
}

// MessageResults returns the numbers of clients' messages by result.
func (s *Stats) MessageResults() map[string]uint64 {
	return map[string]uint64{
		"published": s.Published.Load(), "ignored": s.Dropped.Load(), "refused": s.Refused.Load(),
		"malformed": s.Malformed.Load(), "failed": s.Failed.Load(),
		"subscribed": s.Accepted.Load(),
	}
}
