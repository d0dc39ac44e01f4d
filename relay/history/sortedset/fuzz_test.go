package sortedset

import (
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

// Whatever another program writes into a group's set: an entry is what this version has written, or a gap.
func FuzzDecode(f *testing.F) {
	keys := newKeyring([]string{"secret"})
	ev := relay.Event{Group: "job1", Text: []byte(`{"n": 1}`), Position: relay.Position{Micros: 1_764_378_000_000_000, Mark: 7}}
	f.Add(keys.member(&ev), float64(ev.Position.Micros))
	f.Add(keyring(nil).member(&ev), float64(ev.Position.Micros))
	ev.Type = "chat.message"
	f.Add(keys.member(&ev), float64(ev.Position.Micros))
	f.Add(keyring(nil).member(&ev), float64(ev.Position.Micros))
	for _, k := range []kind{anchorKind, baseKind, gapKind, lateKind, 'x'} {
		f.Add(member(k, 7, ""), -1.764378e15)
		f.Add(member(k, 7, "12345678"), -1.764378e15)
		f.Add(member(k, 7, "123"), 0.0)
	}
	f.Fuzz(func(t *testing.T, raw string, score float64) {
		e := decode(raw, score, "job1", keys)
		if e.Micros < 0 || e.Micros > latestMicros || e.until < 0 || e.from < 0 {
			t.Fatalf("%+v", e)
		}
		switch {
		case e.broken && e.kind != gapKind:
			t.Fatalf("a broken entry of kind %c", e.kind)
		case e.kind != eventKind:
		default:
			again := relay.Event{
				Group: "job1", Type: e.ofType, Text: e.text, Position: e.Position, Foreign: e.foreign, NeedsRelay: e.marked,
			}
			ring := keys
			if raw[0] >= 'a' {
				ring = nil
			}
			if got := ring.member(&again); got != raw {
				t.Fatalf("%q is not what was written, %q", raw, got)
			}
		}
		_ = newView([]entry{e}, 0).judge(e.Position)
	})
}

func TestLatenessIsRounded(t *testing.T) {
	l := lateBetween(10_300_000, 11_000_001)
	if want := (lateness{10_249_988, 12_000_000}); l != want {
		t.Errorf("%+v, want %+v", l, want)
	}
	if further := lateBetween(10_300_000, 12_000_001); further.member() == l.member() {
		t.Errorf("%+v has the member of %+v, and one replaces the other", further, l)
	}
	if !l.covers(lateness{10_500_000, 12_000_000}) || l.covers(lateness{10_000_000, 12_000_000}) ||
		l.covers(lateness{10_500_000, 13_000_000}) {
		t.Error("covers")
	}
}

// An event with a type is another event than one without a type and the same text, for marks and for encryption.
func TestTypedEventsAreOthers(t *testing.T) {
	h, keys := newHasher(make([]byte, keySize)), newKeyring([]string{"secret"})
	text := []byte(`{"type": "t", "n": 1}`)
	plain := relay.Event{Group: "job1", Text: text, NeedsRelay: true, Position: relay.Position{Micros: 1_764_378_000_000_000}}
	typed, other := plain, plain
	typed.Type, other.Type = "t", "u"
	marks := map[uint64]bool{}
	for _, ev := range []*relay.Event{&plain, &typed, &other} {
		ev.Position.Mark = h.mark(ev, ev.Position.Micros)
		marks[ev.Position.Mark] = true
		for _, ring := range []keyring{nil, keys} {
			e := decode(ring.member(ev), float64(ev.Position.Micros), "job1", ring)
			if e.broken || e.ofType != ev.Type || string(e.text) != string(text) || !e.marked || e.foreign {
				t.Errorf("type %q: %+v", ev.Type, e)
			}
		}
	}
	if len(marks) != 3 {
		t.Errorf("%d marks of 3 events", len(marks))
	}
	// A member is not taken for one of the other kind.
	sealed := []byte(keys.member(&typed))
	sealed[0] = byte(sealedMarkedKind)
	if e := decode(string(sealed), float64(typed.Position.Micros), "job1", keys); !e.broken {
		t.Errorf("read as an event without a type: %+v", e)
	}
}
