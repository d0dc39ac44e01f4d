package backplane

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/memory"
)

// A link that the other node has dialled is asked for events only once that node has kept it: it closes one too many right after the
// handshake, and what was sent until another link is asked would be lost.
func TestNoSourceBeforeTheLinkStands(t *testing.T) {
	hub := relay.NewHub(slog.New(slog.DiscardHandler))
	defer func() { _ = hub.Close(t.Context()) }()
	if err := hub.SetBroker(t.Context(), memory.NewLayer().Broker()); err != nil {
		t.Fatal(err)
	}
	b, err := New(hub, Settings{Secrets: Secrets{"x"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b.readLayer(t.Context())
	for _, dialed := range []bool{false, true} {
		l := &link{b: b, dialect: EdgeRelay, dialed: dialed, queue: newQueue(1000), began: time.Now(), ctx: t.Context()}
		l.introduce(message{Node: "other", Layer: "elsewhere"})
		b.interest.mu.Lock()
		b.interest.relays = map[*link]struct{}{l: {}}
		b.interest.mu.Unlock()
		b.chooseSources()
		if l.peer.source.Load() != dialed {
			t.Errorf("dialled by this node: %v; a source: %v", dialed, !dialed)
		}
		text, err := json.Marshal(message{Type: "layer", Layer: "elsewhere"})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.receiveV1(websocket.MessageText, text); err != nil {
			t.Fatal(err)
		}
		if !l.peer.source.Load() {
			t.Errorf("dialled by this node: %v; no source although the link stands", dialed)
		}
	}
}
