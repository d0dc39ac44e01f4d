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
	frame := appendBroadcast(nil, "job_events-42", text)
	if want := `{"group": "job_events-42", "message": "{\"stdout\": \"\u00fcn\u00efcode \\u001b[0m \\\"quoted\\\" \ud83d\udd11\"}"}`; string(frame) != want {
		t.Errorf("wrote %s\nwant  %s", frame, want)
	}
	group, got, err := decodeBroadcast(frame)
	if err != nil || group != "job_events-42" || !bytes.Equal(got, text) {
		t.Errorf("read %q %q %v", group, got, err)
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
		if _, _, err := decodeBroadcast([]byte(frame)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", frame, err, want)
		}
	}
}

func TestRelayFrames(t *testing.T) {
	frame := appendRelay(nil, "jobs-summary", []byte(`{"a": "ö"}`))
	if want := `{"group": "jobs-summary", "message": {"type": "internal.message", "text": "{\"a\": \"\u00f6\"}"}}`; string(frame) != want {
		t.Errorf("wrote %s\nwant  %s", frame, want)
	}
	f, err := decodeRelay(frame)
	if err != nil {
		t.Fatal(err)
	}
	if group, text, err := f.event(); err != nil || group != "jobs-summary" || string(text) != `{"a": "ö"}` {
		t.Errorf("read %q %q %v", group, text, err)
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
			_, _, err = f.event()
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
	f.Add(appendBroadcast(nil, "g-1", []byte(`{}`)))
	f.Add(appendRelay(nil, "g-1", []byte(`{}`)))
	f.Add(appendSubscription(nil, "unsubscribe", []string{"g-1"}, "x"))
	f.Add(appendBatched(appendBatched(nil, "a-1", []byte("x")), "b-2", []byte("y")))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sound := func(group string, text []byte) {
			if !relay.ValidGroup(group) || group == broadcastGroup || !utf8.Valid(text) {
				t.Errorf("%q in group %q is taken", text, group)
			}
		}
		if group, text, err := decodeBroadcast(b); err == nil {
			sound(group, text)
			if g, ok := groupOf(b); ok && g != group && !bytes.Contains(b, []byte(`"group"`)) {
				t.Errorf("group %q or %q", g, group)
			}
			again, text2, err := decodeBroadcast(appendBroadcast(nil, group, text))
			if err != nil || again != group || !bytes.Equal(text, text2) {
				t.Errorf("%q %q does not survive: %q %q %v", group, text, again, text2, err)
			}
		}
		if frame, err := decodeRelay(b); err == nil {
			if group, text, err := frame.event(); err == nil {
				sound(group, text)
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
