package backplane

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// A link that the peer dialed becomes the source only after the peer has kept it. The peer closes a redundant link
// right after the handshake, and events sent before the next choice would be lost.
func TestNoSourceBeforeTheLinkIsKept(t *testing.T) {
	b := newPlane(t)
	for _, dialed := range []bool{false, true} {
		l := newLink(t.Context(), b, dialed)
		b.interest.mu.Lock()
		b.interest.relays = map[*link]struct{}{l: {}}
		b.interest.mu.Unlock()
		b.chooseSources()
		if l.phase().isSource() != dialed {
			t.Errorf("dialed by this node: %v; a source: %v", dialed, !dialed)
		}
		text, err := json.Marshal(message{Type: "layer", Layer: "elsewhere"})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.receiveV1(websocket.MessageText, text); err != nil {
			t.Fatal(err)
		}
		if !l.phase().isSource() {
			t.Errorf("dialed by this node: %v; no source although the link is kept", dialed)
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
	b, err := New(hub, Settings{Secrets: Secrets{"x"}, JoinWait: testkit.Patience}, slog.New(slog.DiscardHandler))
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

// A client subscribes, and the link breaks before the peer has confirmed: the client waits for the next link.
func TestSubscriptionWaitsForTheNextLink(t *testing.T) {
	t.Run("spare link", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testNextLink(t, true) }) })
	t.Run("no spare link", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testNextLink(t, false) }) })
}

func testNextLink(t *testing.T, spare bool) {
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
	confirmed := make(chan struct{})
	go func() {
		wait(t.Context())
		close(confirmed)
	}()
	end()
	first.replace()
	if second.phase().isSource() != spare {
		t.Fatalf("the second link is a source: %v", !spare)
	}
	synctest.Wait()
	if spare {
		select {
		case <-confirmed:
			t.Fatal("the subscription is confirmed before the next link has answered")
		default:
		}
		b.interest.mu.Lock()
		asked := second.peer.askedSeq
		b.interest.mu.Unlock()
		second.confirmInterest(asked)
		synctest.Wait()
	}
	select {
	case <-confirmed:
	default:
		t.Fatal("not confirmed")
	}
	b.stop() // ends the wait for another source
	b.running.Wait()
}

// The peer takes its events over another link, which cannot become the source in place of the first one. Without a
// source, events may be missing, and the gap is known.
func TestGapAfterTheStreamHasMoved(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for name, to := range map[string]func(*Backplane) *link{
		"to a link that has ended": func(b *Backplane) *link { return newLink(ended, b, true) },
		"to a link that retires": func(b *Backplane) *link {
			l := newLink(t.Context(), b, true)
			l.move(signalRetired)
			return l
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newPlane(t)
			from := newLink(t.Context(), b, true)
			from.ctx, from.cancel = context.WithCancelCause(t.Context())
			b.interest.mu.Lock()
			b.interest.relays = map[*link]struct{}{from: {}}
			b.interest.mu.Unlock()
			b.chooseSources()
			from.vitals.signal(signalReplaced, 1)
			b.streamMoved(from, to(b))
			if from.ctx.Err() == nil {
				t.Fatal("the first link stays")
			}
			from.replace()
			if b.interest.gaps["elsewhere"] == nil {
				t.Error("nobody knows that events of the peer's layer may be missing")
			}
			b.endGaps()
		})
	}
}
