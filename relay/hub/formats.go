package hub

import (
	"slices"

	"github.com/edgerelay/edgerelay/relay"
)

// formatAudience is the clients of a group, on a shard, that have a format. The shard's mu guards the pointers.
// See docs/decisions/hub.md#why-do-the-clients-of-a-route-have-audiences-of-their-own
type formatAudience struct {
	format     relay.Format
	plain      *audience         // nil if there are none
	positioned *positionAudience // of those that begin with earlier events; nil if there are none
}

// deflates reports whether a client has agreed on compression. The shard's mu is held.
func (a *formatAudience) deflates() bool {
	return a.plain != nil && a.plain.deflates || a.positioned != nil && a.positioned.deflates
}

// findFormat returns the audience of a format, nil if the list has none.
func findFormat(list []*formatAudience, format relay.Format) *formatAudience {
	for _, a := range list {
		if a.format == format {
			return a
		}
	}
	return nil
}

// formatAudience returns the audience of a group's clients with a format, and makes it if there is none. s.mu is held.
func (s *shard) formatAudience(group string, format relay.Format) *formatAudience {
	a := findFormat(s.formatted[group], format)
	if a == nil {
		if s.formatted == nil {
			s.formatted = map[string][]*formatAudience{}
		}
		a = &formatAudience{format: format}
		s.formatted[group] = append(s.formatted[group], a)
		s.hub.formatted.Add(1)
	}
	return a
}

// plainAudience returns the audience of a group's clients without positions, and makes it if there is none. A nil
// format is the hub's protocol.
func (s *shard) plainAudience(group string, format relay.Format) *audience {
	s.mu.Lock()
	defer s.mu.Unlock()
	if format != nil {
		a := s.formatAudience(group, format)
		if a.plain == nil {
			a.plain = &audience{}
		}
		return a.plain
	}
	a := s.audiences[group]
	if a == nil {
		a = &audience{}
		s.audiences[group] = a
	}
	return a
}

// removeFormatted removes the audiences of a format that have no clients. The round is held.
func (s *shard) removeFormatted(group string, format relay.Format) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := findFormat(s.formatted[group], format)
	if a == nil {
		return
	}
	if a.plain != nil && len(a.plain.subs) == 0 {
		a.plain = nil
	}
	if p := a.positioned; p != nil && len(p.subs) == 0 && len(p.pending) == 0 {
		a.positioned = nil
	}
	if a.plain != nil || a.positioned != nil {
		return
	}
	// A copy, because an encoder may be reading the list.
	rest := slices.DeleteFunc(slices.Clone(s.formatted[group]), func(b *formatAudience) bool { return a == b })
	if s.formatted[group] = rest; len(rest) == 0 {
		delete(s.formatted, group)
	}
	s.hub.formatted.Add(-1)
}

// formatAudiences returns copies of the audiences of a group's clients with formats.
func (s *shard) formatAudiences(group string) []formatAudience {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []formatAudience
	for _, a := range s.formatted[group] {
		list = append(list, *a)
	}
	return list
}

// positionAudiences returns all audiences of a group's clients that get positions.
func (s *shard) positionAudiences(group string) (list []*positionAudience) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if a := s.positioned[group]; a != nil {
		list = append(list, a)
	}
	for _, a := range s.formatted[group] {
		if a.positioned != nil {
			list = append(list, a.positioned)
		}
	}
	return list
}

// framer encodes the frames of clients that get positions, or begin with earlier events.
type framer interface {
	// AppendEvent is as in [relay.Format].
	AppendEvent(dst []byte, ev *relay.Event, text []byte) ([]byte, relay.Frame)
	relay.HistoryFormat
}

// envelopes is the framer of the hub's protocol.
type envelopes struct{ relay.PositionProtocol }

// AppendEvent implements framer.
func (e envelopes) AppendEvent(dst []byte, ev *relay.Event, text []byte) ([]byte, relay.Frame) {
	return e.PositionProtocol.AppendEvent(dst, ev, text), relay.TextFrame
}

// formatFramer is the framer of a format.
type formatFramer struct {
	relay.Format
	relay.HistoryFormat
}

// framerOf returns the framer of the clients with a format, where nil is the hub's protocol. The result is nil if such
// clients cannot get earlier events.
func (h *Hub) framerOf(format relay.Format) framer {
	if format == nil {
		if f := h.envelopes.Load(); f != nil {
			return *f
		}
		return nil
	}
	if history, ok := format.(relay.HistoryFormat); ok {
		return formatFramer{format, history}
	}
	return nil
}

// binaryOpcode begins the binary frame of a whole message (RFC 6455 section 5.2).
const binaryOpcode = 0x82

// appendFrame appends a frame of a kind.
func appendFrame(dst []byte, kind relay.Frame, payload []byte) []byte {
	at := len(dst)
	dst = relay.AppendFrame(dst, payload)
	if kind == relay.BinaryFrame {
		dst[at] = binaryOpcode
	}
	return dst
}

// appendText appends a text frame, or nothing for a nil text.
func appendText(dst, text []byte) []byte {
	if text == nil {
		return dst
	}
	return relay.AppendFrame(dst, text)
}
