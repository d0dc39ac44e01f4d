package backplane

import (
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
)

// numbered encodes events whose first has a number.
func numbered(number uint64, events ...*event) []byte {
	b := appendNumberedHead(nil, number, len(events))
	for _, e := range events {
		b = appendNumbered(b, e, true)
	}
	return b
}

func TestNumberedBatches(t *testing.T) {
	at := relay.Position{Micros: 1_764_378_000_123_456, Mark: 1 << 63}
	batch := numbered(
		7,
		&event{group: "a-1", text: []byte("one"), position: at, sent: at.Micros},
		&event{group: "a-1", text: []byte("two"), position: at, sent: 5, refill: true},
		&event{group: "not a group", text: []byte("three")},
		&event{group: "a-1", text: []byte("\xff")},
		&event{group: "b-2"},
		&event{group: "b-2", text: []byte("six"), sent: 6},
		&event{group: "b-2", text: []byte("{}"), sent: 7, kind: "chat.message", sender: "node/1"},
		&event{group: "b-2", text: []byte("{}"), kind: "\xff"},
	)
	var bad []fault
	got, ok := decodeNumbered(batch, 0, func(f fault) { bad = append(bad, f) })
	if !ok || got.first != 7 || got.last != 14 || got.unread != 0 || got.skipped != 0 {
		t.Fatalf("%+v", got)
	}
	want := []relay.Event{
		{Group: "a-1", Text: []byte("one"), Position: at, Sent: time.UnixMicro(at.Micros)},
		{Group: "a-1", Text: []byte("two"), Position: at, Sent: time.UnixMicro(5)},
		{Group: "b-2"},
		{Group: "b-2", Text: []byte("six"), Sent: time.UnixMicro(6)},
		{Group: "b-2", Text: []byte("{}"), Sent: time.UnixMicro(7), Type: "chat.message", Sender: "node/1"},
	}
	same := func(a, b relay.Event) bool {
		return a.Group == b.Group && string(a.Text) == string(b.Text) && a.Position == b.Position &&
			a.Sent.Equal(b.Sent) && a.Type == b.Type && a.Sender == b.Sender && a.Source == relay.FromPeer
	}
	if !slices.EqualFunc(got.events, want, same) || !slices.Equal(got.refills, []int{1}) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !slices.Equal(bad, []fault{faultGroup, faultUTF8, faultUTF8}) {
		t.Errorf("%v", bad)
	}
	if got, _ := decodeNumbered(batch, 11, func(fault) {}); len(got.events) != 2 || got.skipped != 5 {
		t.Errorf("behind event 11: %+v", got)
	}
	for n := range batch { // cut anywhere: the missing events are counted
		got, ok := decodeNumbered(batch[:n], 0, func(fault) {})
		if ok && got.unread == 0 {
			t.Errorf("%d of %d bytes are whole: %+v", n, len(batch), got)
		}
	}
	for _, broken := range [][]byte{nil, {0, 1}, {1, 200, 1}, append(numbered(1, &event{group: "a"}), 0)} {
		count := 0
		if decodeNumbered(broken, 0, func(fault) { count++ }); count == 0 {
			t.Errorf("%v is taken", broken)
		}
	}
}

func FuzzNumbered(f *testing.F) {
	f.Add(numbered(1, &event{group: "a-1", text: []byte("x"), sent: 1, position: relay.Position{Micros: 1}}), uint64(0))
	f.Add(numbered(1<<63, &event{group: "a-1", refill: true}, &event{group: "b-1"}), uint64(1<<63))
	f.Add(numbered(1, &event{group: "a-1", kind: "t", sender: "s", text: []byte("{}")}), uint64(0))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02"), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, after uint64) {
		batch, ok := decodeNumbered(b, after, func(fault) {})
		if !ok {
			return
		}
		if count := batch.last - batch.first + 1; uint64(len(batch.events)+batch.skipped+batch.unread) > count {
			t.Errorf("%d events, %d skipped and %d unread of %d", len(batch.events), batch.skipped, batch.unread, count)
		}
		for _, ev := range batch.events {
			if !relay.ValidGroup(ev.Group) || ev.Group == broadcastGroup || !utf8.Valid(ev.Text) || !utf8.ValidString(ev.Type) ||
				ev.Position.Part != 0 {
				t.Errorf("%+v is taken", ev)
			}
		}
		for _, n := range batch.refills {
			if n >= len(batch.events) {
				t.Errorf("event %d of %d is from the history", n, len(batch.events))
			}
		}
	})
}

// FuzzRecent compares the search for doubles with a list of all events.
func FuzzRecent(f *testing.F) {
	f.Add([]byte{1, 2, 3, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &recent{groups: map[string]*recentGroup{}}
		seen := map[relay.Position]bool{}
		for n, x := range b {
			if n == len(b)/2 {
				r.expectDoubles([]string{"g"})
			}
			at := relay.Position{Micros: int64(x), Mark: 1}
			fresh, dropped := r.admit([]relay.Event{{Group: "g", Position: at}}, nil)
			if want := n < len(b)/2 || !seen[at]; (len(fresh) == 1) != want || len(fresh)+dropped != 1 {
				t.Fatalf("event %d of %v: %d fresh, %d dropped", n, b, len(fresh), dropped)
			}
			seen[at] = true
		}
	})
}
