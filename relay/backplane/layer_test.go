package backplane

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// A link that the other node has dialled is asked for events only once that node has kept it: it closes one too many right after the
// handshake, and what was sent until another link is asked would be lost.
func TestNoSourceBeforeTheLinkStands(t *testing.T) {
	b := newPlane(t)
	for _, dialed := range []bool{false, true} {
		l := newLink(t.Context(), b, dialed)
		b.interest.mu.Lock()
		b.interest.relays = map[*link]struct{}{l: {}}
		b.interest.mu.Unlock()
		b.chooseSources()
		if l.phase().isSource() != dialed {
			t.Errorf("dialled by this node: %v; a source: %v", dialed, !dialed)
		}
		text, err := json.Marshal(message{Type: "layer", Layer: "elsewhere"})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.receiveV1(websocket.MessageText, text); err != nil {
			t.Fatal(err)
		}
		if !l.phase().isSource() {
			t.Errorf("dialled by this node: %v; no source although the link stands", dialed)
		}
	}
}

// newPlane returns a Backplane without links.
func newPlane(t *testing.T) *Backplane {
	hub := hub.New(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = hub.Close(context.Background()) })
	if err := hub.SetBroker(t.Context(), memory.NewLayer().Broker()); err != nil {
		t.Fatal(err)
	}
	b, err := New(hub, Settings{Secrets: Secrets{"x"}, JoinWait: relaytest.Patience}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b.readLayer(t.Context())
	return b
}

// newLink returns a link to a node elsewhere that is up until ctx ends.
func newLink(ctx context.Context, b *Backplane, dialed bool) *link {
	l := &link{b: b, dialect: EdgeRelay, dialed: dialed, queue: newQueue(1000), began: time.Now(), ctx: ctx}
	l.setPeer(message{Node: "other", Layer: "elsewhere"})
	return l
}

// A client subscribes, and the link that was asked breaks before the peer has answered: the client waits until the next one has.
func TestSubscribedWhileALinkBreaks(t *testing.T) {
	for _, spare := range []bool{true, false} {
		b := newPlane(t)
		ctx, end := context.WithCancel(t.Context())
		first := newLink(ctx, b, true)
		links := map[*link]struct{}{first: {}}
		b.interest.mu.Lock()
		b.interest.relays = links
		b.interest.mu.Unlock()
		b.chooseSources()
		second := newLink(t.Context(), b, true)
		if spare {
			b.interest.mu.Lock()
			links[second] = struct{}{}
			b.interest.mu.Unlock()
			b.chooseSources()
		}
		if !first.phase().isSource() || second.phase().isSource() {
			t.Fatal("the first link is not the source, or not alone")
		}
		wait := b.Interest([]string{"g"}, nil)
		done := make(chan struct{})
		go func() {
			wait(t.Context())
			close(done)
		}()
		end()
		first.replace()
		if second.phase().isSource() != spare {
			t.Fatalf("the second link is a source: %v", !spare)
		}
		if spare {
			select {
			case <-done:
				t.Fatal("the subscription is confirmed before the next link has answered")
			case <-time.After(50 * time.Millisecond):
			}
			b.interest.mu.Lock()
			asked := second.peer.askedSeq
			b.interest.mu.Unlock()
			second.confirmInterest(asked)
		}
		select {
		case <-done:
		case <-time.After(relaytest.Patience):
			t.Fatalf("not confirmed; a spare link: %v", spare)
		}
	}
}
