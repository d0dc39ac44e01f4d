package admin

import (
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// TestRecordedPositions: a recording has the position of an event, which samples read again.
func TestRecordedPositions(t *testing.T) {
	at := relay.Position{Micros: 1_767_323_045_000_000, Mark: 7, Part: 2}
	ev := hub.TailEvent{Group: "g", At: time.UnixMilli(1_767_323_045_000), Source: relay.FromPeer, Text: []byte(`{}`)}
	const want = `{"group":"g","payload":{},"source":"peer","at":"2026-01-02T03:04:05Z"}` + "\n"
	if got := string(appendRecorded(nil, &ev)); got != want {
		t.Errorf("recorded as %s, want %s", got, want)
	}
	ev.Position = at
	sample, err := plugins.ParseSample(appendRecorded(nil, &ev), "test")
	if err != nil || sample.Position != at.String() {
		t.Errorf("the sample is %+v (%v), want the position %s", sample, err, at)
	}
	ev.Type = "chat.message"
	if e := tailEventOf(ev); e.Type != ev.Type || string(e.Data) != "{}" {
		t.Errorf("the tail shows %+v", e)
	}
	if got := tailEventOf(ev).Position; got != at.String() {
		t.Errorf("the tail shows the position %q, want %q", got, at)
	}
}
