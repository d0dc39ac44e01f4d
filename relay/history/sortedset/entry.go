package sortedset

import (
	"encoding/binary"
	"math"
	"strconv"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

// kind is the first byte of a member of a group's sorted set. Events have their time in microseconds as score. All other
// entries have the negative of their time, so that they are read without texts, and survive when events are removed.
type kind byte

const (
	// eventKind: mark, text.
	eventKind kind = 'e'
	// sealedKind: mark, sealed text.
	sealedKind kind = 'E'
	// anchorKind: mark. The position of the newest removed event: nothing is missing behind it, and everything before it is
	// gone.
	anchorKind kind = 'a'
	// baseKind: mark. A position in a group without events.
	baseKind kind = 'b'
	// gapKind: mark. Events around this time may be missing.
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
	text []byte
	// from is, of a late entry, the time from which on events came late.
	from int64
	// broken: the text cannot be read.
	broken bool
	raw    string
}

// decode decodes a member of a group's set. An entry that this version does not know, or cannot read, is a gap: it may
// stand for events.
func decode(raw string, score float64, group string, keys keyring) entry {
	e := entry{raw: raw, kind: gapKind}
	isEvent := score > 0
	e.Micros = int64(math.Min(math.Abs(score), latestMicros))
	if len(raw) < 1+markSize {
		e.broken = true
		return e
	}
	e.Mark = binary.BigEndian.Uint64([]byte(raw[1 : 1+markSize]))
	rest := raw[1+markSize:]
	switch k := kind(raw[0]); {
	case isEvent && k == eventKind:
		e.kind, e.text = eventKind, []byte(rest)
	case isEvent && k == sealedKind:
		e.kind = eventKind
		if e.text, e.broken = keys.open(group, e.Position, rest); e.broken {
			e.kind = gapKind
		}
	case !isEvent && rest == "" && (k == anchorKind || k == baseKind || k == gapKind):
		e.kind = k
	case !isEvent && rest == "" && k == lateKind:
		e.kind, e.from, e.Mark = lateKind, int64(min(e.Mark, latestMicros)), 0
	default:
		e.broken = true
	}
	return e
}

// score returns the score of an event.
func score(micros int64) string { return strconv.FormatInt(micros, 10) }

// metaEntry returns an entry without text.
func metaEntry(k kind, at relay.Position) goredis.Z {
	return goredis.Z{Score: float64(-at.Micros), Member: member(k, at.Mark, "")}
}

const (
	// lateFromGrid and lateToGrid are the precision of late entries, in microseconds: nodes that see the same events late
	// write the same few entries.
	lateFromGrid = 250_000
	lateToGrid   = 1_000_000
)

// lateness is the content of a late entry: an event of a time after from came after events up to the time to.
type lateness struct{ from, to int64 }

// lateBetween returns the lateness of an event that came after the newest one.
func lateBetween(micros, newest int64) lateness {
	to := newest + lateToGrid - 1
	return lateness{micros - micros%lateFromGrid, to - to%lateToGrid}
}

// covers reports whether l makes another lateness superfluous.
func (l lateness) covers(m lateness) bool { return l.to == m.to && l.from <= m.from }
