package sortedset

import (
	"bytes"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

// Whatever another program writes into a group's set: an entry is what this version has written, or a gap.
func FuzzDecode(f *testing.F) {
	keys := newKeyring([]string{"secret"})
	ev := relay.Event{Group: "job1", Text: []byte(`{"n": 1}`), Position: relay.Position{Micros: 1_764_378_000_000_000, Mark: 7}}
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
		case raw[0] == byte(eventKind) || raw[0] == byte(peerKind):
			if !bytes.Equal(e.text, []byte(raw[1+markSize:])) {
				t.Fatalf("text %q of %q", e.text, raw)
			}
		default:
			again := relay.Event{Group: "job1", Text: e.text, Position: e.Position, Foreign: e.foreign}
			if got := keys.member(&again); got != raw {
				t.Fatalf("%q is not what was encrypted, %q", raw, got)
			}
		}
		_ = newView([]entry{e}, 0).judge(e.Position)
	})
}

func TestLatenessIsRounded(t *testing.T) {
	l := lateBetween(10_300_000, 11_000_001)
	if want := (lateness{10_250_000, 12_000_000}); l != want {
		t.Errorf("%+v, want %+v", l, want)
	}
	if !l.covers(lateness{10_500_000, 12_000_000}) || l.covers(lateness{10_000_000, 12_000_000}) ||
		l.covers(lateness{10_500_000, 13_000_000}) {
		t.Error("covers")
	}
}
