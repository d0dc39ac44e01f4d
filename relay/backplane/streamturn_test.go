package backplane

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// newStreamLink returns a link to the node other, which acknowledges events.
func newStreamLink(t *testing.T, b *Backplane) *link {
	l := newVitalLink(t, b, "other", false, time.Now())
	l.ctx, l.cancel = context.WithCancelCause(t.Context())
	l.in = b.incomingOf("other")
	l.move(signalKept)
	return l
}

// request is a request for the stream of the groups.
func request(turn uint64, id string, groups ...string) message {
	return message{Type: "interest", Seq: turn, Reset: true, Source: true, Turn: turn, Stream: id, Join: groups}
}

// A link stalls, and the peer asks for its stream over another one. When the network returns, the first link delivers
// the peer's earlier request: it changes nothing.
func TestAnOldRequestForAStreamIsIgnored(t *testing.T) {
	b := newPlane(t)
	first, second := newStreamLink(t, b), newStreamLink(t, b)
	second.changeGroups(request(2, "", "new"))
	s := second.stream.Load()
	if s == nil || !s.has(second) {
		t.Fatal("the newest request is not answered")
	}
	first.changeGroups(request(1, "", "old"))
	if first.stream.Load() != nil || !s.has(second) || second.ctx.Err() != nil {
		t.Errorf("an old request has moved the stream; the other link: %v", context.Cause(second.ctx))
	}
	if groups := s.list(); !slices.Equal(groups, []string{"new"}) {
		t.Errorf("groups %q after an old request", groups)
	}
	if n := len(first.queue.control); n != 0 {
		t.Errorf("%d messages answer the old request", n)
	}

	second.vitals.signal(signalReplaced, 0) // stalled, so that it ends at once
	first.changeGroups(request(3, s.id, "newest"))
	if !s.has(first) || first.stream.Load() != s || second.ctx.Err() == nil {
		t.Error("a newer request over the first link does not move the stream there")
	}
	second.changeGroups(request(2, s.id, "new"))
	if groups := s.list(); !s.has(first) || !slices.Equal(groups, []string{"newest"}) {
		t.Errorf("a request was repeated by an ended link: groups %q", groups)
	}
	s.leaveGroups()
}

// A node numbers its requests for streams, over whichever link.
func TestRequestsForStreamsAreNumbered(t *testing.T) {
	b := newPlane(t)
	var last uint64
	for range 3 {
		l := newStreamLink(t, b)
		b.interest.mu.Lock()
		l.ask(nil)
		b.interest.mu.Unlock()
		if m := lastMessage(t, l); !m.Source || m.Turn <= last {
			t.Errorf("request %+v after number %d", m, last)
		} else {
			last = m.Turn
		}
	}
}

// From its request over another link on, a node takes nothing of the stream over the link before: no event, no
// beginning and no loss. All that comes again.
func TestNothingOfAStreamIsTakenBehindAFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newPlane(t)
		first, second := newStreamLink(t, b), newStreamLink(t, b)
		for _, l := range []*link{first, second} {
			l.timed = false
			l.move(signalChosen)
		}
		one := func() *event { return &event{group: "g", text: []byte("{}")} }
		in := first.in
		in.ask(first)
		first.beginStream(message{Type: "stream", Stream: "id", First: 1, Until: 2})
		first.receiveNumbered(numbered(1, one(), one()))
		if got := first.eventsIn.Load(); got != 2 {
			t.Fatalf("%d events over the link that was asked", got)
		}
		time.Sleep(2 * ackDelay)
		if m := lastMessage(t, first); m.Type != "ack" || m.Seq != 2 {
			t.Fatalf("answered %+v", m)
		}
		sent := len(first.queue.control)

		if id, last, _ := in.ask(second); id != "id" || last != 2 {
			t.Errorf("asked for %q from event %d on", id, last)
		}
		first.receiveNumbered(numbered(3, one(), one(), one()))
		first.beginStream(message{Type: "stream", Stream: "another", First: 100, Until: 100})
		if first.acknowledgeLoss(1) {
			t.Error("a loss behind the fence counts")
		}
		if got := first.eventsIn.Load(); got != 2 || in.delivered.Load() != 2 || in.claimed.Load() != 2 || in.id != "id" {
			t.Errorf("behind the fence: %d events, %d delivered, %d claimed, stream %q",
				got, in.delivered.Load(), in.claimed.Load(), in.id)
		}
		if dropped := b.Stats().Dropped[string(faultSource)]; dropped != 3 {
			t.Errorf("%d events count as dropped behind the fence, want 3", dropped)
		}

		second.beginStream(message{Type: "stream", Stream: "id", First: 3, Until: 5})
		second.receiveNumbered(numbered(3, one(), one(), one()))
		if got := second.eventsIn.Load(); got != 3 || second.jumped.Load() {
			t.Errorf("%d events over the other link, a jump: %v", got, second.jumped.Load())
		}
		if !second.acknowledgeLoss(1) {
			t.Error("the loss does not count over the other link")
		}
		time.Sleep(2 * ackDelay)
		if m := lastMessage(t, second); m.Type != "ack" || m.Seq != 5 || m.Loss != 1 {
			t.Errorf("answered %+v", m)
		}
		if got := len(first.queue.control); got != sent {
			t.Errorf("%d messages over the link before", got-sent)
		}
	})
}
