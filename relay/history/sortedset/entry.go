package sortedset

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

// kind is the first byte of a member of a group's sorted set. Events have their time in microseconds as score. All
// other entries have the negative of their time, so that they are read without texts, and survive when events are
// removed.
type kind byte

const (
	// eventKind: mark, text. markedKind: the same, of an event that needs_relay marks. peerKind: of an event that a peer
	// sent.
	eventKind  kind = 'e'
	markedKind kind = 'm'
	peerKind   kind = 'p'
	// sealedEventKind, sealedMarkedKind, sealedPeerKind: mark, encrypted text.
	sealedEventKind  kind = 'E'
	sealedMarkedKind kind = 'M'
	sealedPeerKind   kind = 'P'
	// typedKind: mark, the kind that the event would have without a type, a byte with the length of the type, type, text.
	// sealedTypedKind: mark, the same from the kind on, encrypted.
	typedKind       kind = 't'
	sealedTypedKind kind = 'T'
	// anchorKind: mark. The position of the newest removed event: nothing is missing behind it, and everything before it
	// is gone.
	anchorKind kind = 'a'
	// baseKind: mark, marks of gaps. A position behind which nothing is missing but events that are in the history. The
	// gaps were there before.
	baseKind kind = 'b'
	// gapKind: mark, and the time up to which events may be missing behind positions; without a time, events around the
	// time of the gap may be missing.
	gapKind kind = 'g'
	// lateKind: time, from which on an event came after events up to the entry's own time.
	lateKind kind = 'l'
)

// markSize is the length of a mark in a member.
const markSize = 8

// member returns the member of an entry.
func member(k kind, mark uint64, text string) string {
	b := make([]byte, 0, 1+markSize+len(text))
	b = binary.BigEndian.AppendUint64(append(b, byte(k)), mark)
	return string(append(b, text...))
}

// entry is a decoded member.
type entry struct {
	kind kind
	relay.Position
	text    []byte
	ofType  string // the event's Type
	foreign bool   // an event that a peer sent
	marked  bool   // an event that needs_relay marks
	// from is, of a late entry, the time from which on events came late.
	from int64
	// until is, of a gap, the time up to which positions cannot be resumed from.
	until int64
	// seen are, of a base, the marks of the gaps that it knows.
	seen []uint64
	// broken: the entry cannot be read.
	broken bool
	raw    string
}

// decode decodes a member of a group's set. An entry that this version does not know, or cannot read, is a gap: it may
// stand for events.
func decode(raw string, score float64, group string, keys keyring) entry {
	e := entry{raw: raw, kind: gapKind}
	e.Micros = int64(math.Min(math.Abs(score), latestMicros))
	e.until = e.Micros + relay.HistorySlack
	if len(raw) < 1+markSize {
		e.broken = true
		return e
	}
	e.Mark = binary.BigEndian.Uint64([]byte(raw[1 : 1+markSize]))
	rest := raw[1+markSize:]
	if score > 0 {
		e.decodeEvent(kind(raw[0]), rest, group, keys)
	} else {
		e.decodeMeta(kind(raw[0]), rest)
	}
	return e
}

func (e *entry) decodeEvent(k kind, rest, group string, keys keyring) {
	switch k {
	case eventKind, markedKind, peerKind:
		e.text = []byte(rest)
	case sealedEventKind, sealedMarkedKind, sealedPeerKind:
		e.text, e.broken = keys.open(group, e.Position, rest)
	case typedKind:
		k = e.decodeTyped([]byte(rest))
	case sealedTypedKind:
		var content []byte
		if content, e.broken = keys.open(typedContext(group), e.Position, rest); !e.broken {
			k = e.decodeTyped(content)
		}
	default:
		e.broken = true
	}
	if !e.broken {
		e.kind, e.foreign = eventKind, k == peerKind || k == sealedPeerKind
		e.marked = k == markedKind || k == sealedMarkedKind
	}
}

// decodeTyped decodes the content of an event with a type, and returns the kind that it would have without one.
func (e *entry) decodeTyped(b []byte) kind {
	if len(b) < 2 || len(b)-2 < int(b[1]) || b[1] == 0 || !strings.ContainsRune("emp", rune(b[0])) {
		e.broken = true
		return 0
	}
	rest := b[2:]
	e.ofType, e.text = string(rest[:b[1]]), rest[b[1]:]
	return kind(b[0])
}

func (e *entry) decodeMeta(k kind, rest string) {
	switch {
	case k == anchorKind && rest == "":
		e.kind = k
	case k == baseKind && len(rest)%markSize == 0:
		e.kind = k
		for ; rest != ""; rest = rest[markSize:] {
			e.seen = append(e.seen, binary.BigEndian.Uint64([]byte(rest[:markSize])))
		}
	case k == gapKind && rest == "":
	case k == gapKind && len(rest) == markSize:
		e.until = int64(min(binary.BigEndian.Uint64([]byte(rest)), latestMicros))
	case k == lateKind && rest == "":
		e.kind, e.from, e.Mark = k, int64(min(e.Mark, latestMicros)), 0
	default:
		e.broken = true
	}
}

// member returns the member for an event, encrypted if there are keys.
func (r keyring) member(ev *relay.Event) string {
	at, k := ev.Position.Entry(), eventKind
	switch {
	case ev.Foreign || ev.Source == relay.FromPeer:
		k = peerKind
	case ev.NeedsRelay:
		k = markedKind
	}
	if ev.Type != "" {
		content := make([]byte, 0, 2+len(ev.Type)+len(ev.Text))
		content = append(append(content, byte(k), byte(len(ev.Type))), ev.Type...)
		content = append(content, ev.Text...)
		if len(r) == 0 {
			return member(typedKind, at.Mark, string(content))
		}
		return member(sealedTypedKind, at.Mark, r.seal(typedContext(ev.Group), at, content))
	}
	if len(r) == 0 {
		return member(k, at.Mark, string(ev.Text))
	}
	k -= 'a' - 'A'
	return member(k, at.Mark, r.seal(ev.Group, at, ev.Text))
}

// typedContext returns the name under which an event with a type is encrypted: no group has it.
func typedContext(group string) string { return group + "\x00" }

// score returns the score of an event.
func score(micros int64) string { return strconv.FormatInt(micros, 10) }

// metaEntry returns an entry that is not an event.
func metaEntry(k kind, at relay.Position, numbers ...uint64) goredis.Z {
	var rest []byte
	for _, n := range numbers {
		rest = binary.BigEndian.AppendUint64(rest, n)
	}
	return goredis.Z{Score: float64(-at.Micros), Member: member(k, at.Mark, string(rest))}
}

const (
	// lateFromGrid and lateToGrid are the precision of late entries, in microseconds: nodes that see the same events late
	// write the same few entries.
	lateFromGrid = 250_000
	lateToGrid   = 1_000_000
)

// lateness is the content of a late entry: an event of a time after from came after events up to the time to.
type lateness struct{ from, to int64 }

// lateBetween returns the lateness of an event that came after the newest one. The time from is in the member of an
// entry, and the time to is its score. Redis would replace an entry with the same member, so the last digits of from
// depend on to: no entry replaces one that reaches further.
func lateBetween(micros, newest int64) lateness {
	to := newest + lateToGrid - 1
	to -= to % lateToGrid
	return lateness{max(0, micros-micros%lateFromGrid-to/lateToGrid%1000), to}
}

// member returns the member of a late entry.
func (l lateness) member() string { return member(lateKind, uint64(l.from), "") }

// covers reports whether l makes another lateness superfluous.
func (l lateness) covers(m lateness) bool { return l.to == m.to && l.from <= m.from }
