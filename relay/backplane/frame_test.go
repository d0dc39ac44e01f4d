package backplane

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
)

func TestBroadcastFrames(t *testing.T) {
	text := []byte(`{"stdout": "ünïcode \u001b[0m \"quoted\" 🔑"}`)
	frame := appendBroadcast(nil, "job_events-42", "s", text)
	if want := `{"group": "job_events-42", "message": "{\"stdout\": \"\u00fcn\u00efcode \\u001b[0m \\\"quoted\\\" \ud83d\udd11\"}"}`; string(frame) != want {
		t.Errorf("wrote %s\nwant  %s", frame, want)
	}
	ev, err := decodeBroadcast(frame)
	if err != nil || ev.Group != "job_events-42" || !bytes.Equal(ev.Text, text) || ev.Sender != "" {
		t.Errorf("read %+v %v", ev, err)
	}
	if g, ok := groupOf(frame); !ok || g != "job_events-42" {
		t.Errorf("group %q %v", g, ok)
	}
	for frame, want := range map[string]fault{
		``: faultBroken, `[]`: faultBroken, `{"group": "g"}`: faultBroken, `{"group": "g", "message": {}}`: faultBroken,
		`{"group": "a b", "message": "x"}`:                           faultGroup,
		`{"group": "broadcast-group_send", "message": "x"}`:          faultGroup,
		`{"message": "x"}`:                                           faultGroup,
		`{"group": "` + strings.Repeat("g", 100) + `","message":""}`: faultGroup,
		"{\"group\": \"g\", \"message\": \"\xff\"}":                  faultUTF8,
	} {
		if _, err := decodeBroadcast([]byte(frame)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", frame, err, want)
		}
	}
}

// Hops of plugins survive both dialects, for relays behind a Python node; other senders are not the peer's business.
func TestHopsTravelBesideTheText(t *testing.T) {
	for sender, want := range map[string]string{"hop/2": "hop/2", "s": "", "hop/x": "hop/2147483647", "hop/-1": "hop/2147483647"} {
		ev, err := decodeBroadcast(appendBroadcast(nil, "g-1", sender, []byte("x")))
		if err != nil || ev.Sender != want {
			t.Errorf("broadcast, %s: %q %v, want %q", sender, ev.Sender, err, want)
		}
		f, err := decodeRelay(appendRelay(nil, "g-1", sender, []byte("x")))
		if err != nil {
			t.Fatal(err)
		}
		if ev, err = f.event(); err != nil || ev.Sender != want {
			t.Errorf("relay, %s: %q %v, want %q", sender, ev.Sender, err, want)
		}
	}
	if want := `{"group": "g-1", "message": "x", "edgerelay_sender": "hop/2"}`; string(appendBroadcast(nil, "g-1", "hop/2", []byte("x"))) != want {
		t.Error("the member is not beside the message")
	}
}

func TestRelayFrames(t *testing.T) {
	frame := appendRelay(nil, "jobs-summary", "", []byte(`{"a": "ö"}`))
	if want := `{"group": "jobs-summary", "message": {"type": "internal.message", "text": "{\"a\": \"\u00f6\"}"}}`; string(frame) != want {
		t.Errorf("wrote %s\nwant  %s", frame, want)
	}
	f, err := decodeRelay(frame)
	if err != nil {
		t.Fatal(err)
	}
	if ev, err := f.event(); err != nil || ev.Group != "jobs-summary" || string(ev.Text) != `{"a": "ö"}` {
		t.Errorf("read %+v %v", ev, err)
	}
	subscription := appendSubscription(nil, "subscribe", []string{"a-1", "b-2"}, "specific.x!1")
	if want := `{"type": "consumer.subscribe", "groups": ["a-1", "b-2"], "origin_channel": "specific.x!1"}`; string(subscription) != want {
		t.Errorf("wrote %s", subscription)
	}
	f, err = decodeRelay(subscription)
	if err != nil || f.Type != "consumer.subscribe" || !slices.Equal(f.Groups, []string{"a-1", "b-2"}) || f.Origin != "specific.x!1" {
		t.Errorf("read %+v %v", f, err)
	}
	for frame, want := range map[string]fault{
		`{"group": "g"}`:                                        faultBroken,
		`{"group": "g", "message": "text"}`:                     faultBroken,
		`{"group": "g", "message": {"type":"x"}}`:               faultType,
		`{"group": "", "message": {"type":"internal.message"}}`: faultGroup,
	} {
		f, err := decodeRelay([]byte(frame))
		if err == nil {
			_, err = f.event()
		}
		if !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", frame, err, want)
		}
	}
}

func TestBatchLeavesOutWhatIsNotSound(t *testing.T) {
	batch := appendBatched(nil, "a-1", []byte("one"))
	batch = appendBatched(batch, "not a group", []byte("two"))
	batch = appendBatched(batch, "a-1", []byte("\xff"))
	batch = appendBatched(batch, broadcastGroup, []byte("three"))
	batch = appendBatched(batch, "b-2", nil)
	whole := len(batch)
	batch = append(batch, 3, 'a')
	var bad []fault
	events := decodeBatch(batch, nil, func(f fault) { bad = append(bad, f) })
	if len(events) != 2 || events[0].Group != "a-1" || string(events[0].Text) != "one" || events[1].Group != "b-2" {
		t.Errorf("%+v", events)
	}
	if !slices.Equal(bad, []fault{faultGroup, faultUTF8, faultGroup, faultBroken}) {
		t.Errorf("%v", bad)
	}
	for n := range whole { // cut anywhere: never more than there is
		if got := decodeBatch(batch[:n], nil, func(fault) {}); len(got) > 2 {
			t.Errorf("%d events in %d bytes", len(got), n)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(appendBroadcast(nil, "g-1", "hop/2", []byte(`{}`)))
	f.Add(appendRelay(nil, "g-1", "hop/2", []byte(`{}`)))
	f.Add(appendSubscription(nil, "unsubscribe", []string{"g-1"}, "x"))
	f.Add(appendBatched(appendBatched(nil, "a-1", []byte("x")), "b-2", []byte("y")))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sound := func(group string, text []byte) {
			if !relay.ValidGroup(group) || group == broadcastGroup || !utf8.Valid(text) {
				t.Errorf("%q in group %q is taken", text, group)
			}
		}
		if ev, err := decodeBroadcast(b); err == nil {
			sound(ev.Group, ev.Text)
			if g, ok := groupOf(b); ok && g != ev.Group && !bytes.Contains(b, []byte(`"group"`)) {
				t.Errorf("group %q or %q", g, ev.Group)
			}
			again, err := decodeBroadcast(appendBroadcast(nil, ev.Group, ev.Sender, ev.Text))
			if err != nil || again.Group != ev.Group || !bytes.Equal(ev.Text, again.Text) || again.Sender != ev.Sender {
				t.Errorf("%+v does not survive: %+v %v", ev, again, err)
			}
		}
		if frame, err := decodeRelay(b); err == nil {
			if ev, err := frame.event(); err == nil {
				sound(ev.Group, ev.Text)
			}
		}
		for _, ev := range decodeBatch(b, nil, func(fault) {}) {
			sound(ev.Group, ev.Text)
		}
		var m message
		_ = json.Unmarshal(b, &m)
		metricsKey(b)
	})
}
