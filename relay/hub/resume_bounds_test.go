package hub_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// A client that reads slowly gets a large replay piece by piece, and the live events behind it.
func TestLargeReplayIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(quiet)
		h.SetAuthorizer(relay.Open{}, 0)
		h.SetProtocol(plainTexts{})
		model := &modelHistory{}
		h.SetHistory(model)
		base := relay.Position{Micros: time.Now().UnixMicro(), Mark: 1}
		model.store(base, []byte("base"))
		const count = 300
		for i := range count {
			p := relay.Position{Micros: base.Micros + int64(i) + 1, Mark: 1}
			model.store(p, []byte(fmt.Sprintf("%05d%s", i, strings.Repeat("x", 3000))))
		}
		s := &paceSocket{blocked: true}
		session := h.Open(s, relay.Identity{ID: "1"}, netip.Addr{})
		session.OptIn()
		follow(t, session, resumeAfter("h-1", base))
		events, most := 0, 0
		for round := range 200 {
			time.Sleep(10 * time.Millisecond)
			if round == 3 {
				h.Deliver([]relay.Event{{Group: "h-1", Text: []byte("live"), Position: relay.Position{Micros: 1 << 60}}})
			}
			synctest.Wait()
			s.mu.Lock()
			most = max(most, s.queued)
			s.mu.Unlock()
			frames, closed := s.read()
			if closed {
				t.Fatal("the client was disconnected")
			}
			for _, f := range frames {
				fields := strings.Fields(string(f))
				if fields[0] != "event" {
					continue
				}
				if want := fmt.Sprintf("%05d", events); events < count && !strings.HasPrefix(fields[3], want) {
					t.Fatalf("got %.10s, want %s", fields[3], want)
				}
				events++
			}
		}
		if events != count+1 {
			t.Errorf("%d events, want %d", events, count+1)
		}
		if most > 200_000 {
			t.Errorf("%d bytes were queued at once", most)
		}
		if st := h.ResumeStats(); st.Waiting != 0 || st.Events != count || st.Bytes < count*3000 {
			t.Errorf("%+v", st)
		}
		session.Close()
		_ = h.Close(t.Context())
	})
}

// Slow clients that list positions of their own cost memory of their own. There is room for some: the others are
// disconnected, and their replays are freed although they do not read.
func TestReplaysOfSlowClientsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(quiet)
		h.SetAuthorizer(relay.Open{}, 0)
		h.SetProtocol(plainTexts{})
		model := &modelHistory{}
		h.SetHistory(model)
		const count, size, clients = 100, 3000, 40
		at := make([]relay.Position, count)
		for i := range at {
			at[i] = relay.Position{Micros: time.Now().UnixMicro() + int64(i), Mark: 1}
			model.store(at[i], []byte(strings.Repeat("x", size)))
		}
		const own, room = (count - 3) * size, 10
		h.SetRetainable(2*count*size + room*own)
		sessions, sockets := make([]*hub.Session, clients), make([]*paceSocket, clients)
		for i := range sessions {
			sockets[i] = &paceSocket{blocked: true}
			sessions[i] = h.Open(sockets[i], relay.Identity{ID: "1"}, netip.Addr{})
			sessions[i].OptIn()
			follow(t, sessions[i], resumeAfter("h-1", at[i+1], at[count-1], at[0])) // all but two, from the first one on
		}
		time.Sleep(time.Second)
		st, closed := h.ResumeStats(), 0
		for _, s := range sockets {
			if s.closed {
				closed++
			}
		}
		if st.Waiting == 0 || st.Waiting > room || st.Retained < st.Waiting*own || closed != clients-st.Waiting {
			t.Errorf("%d bytes for %d clients, %d disconnected", st.Retained, st.Waiting, closed)
		}
		for _, s := range sessions {
			s.Close()
		}
		if st := h.ResumeStats(); st.Waiting != 0 || st.Retained != 0 {
			t.Errorf("%d bytes of %d clients are counted at the end", st.Retained, st.Waiting)
		}
		_ = h.Close(t.Context())
	})
}

// A client that reads nothing of its replay is disconnected after a while, and one that reads a little is not.
func TestStalledReplayEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(quiet)
		h.SetAuthorizer(relay.Open{}, 0)
		h.SetProtocol(plainTexts{})
		model := &modelHistory{}
		h.SetHistory(model)
		base := relay.Position{Micros: time.Now().UnixMicro(), Mark: 1}
		for i := range 300 {
			model.store(relay.Position{Micros: base.Micros + int64(i), Mark: 1}, []byte(strings.Repeat("x", 3000)))
		}
		stalled, slow := &paceSocket{blocked: true}, &paceSocket{blocked: true}
		var sessions []*hub.Session
		for _, s := range []*paceSocket{stalled, slow} {
			session := h.Open(s, relay.Identity{ID: "1"}, netip.Addr{})
			sessions = append(sessions, session)
			session.OptIn()
			follow(t, session, resumeAfter("h-1", base))
		}
		for range 6 {
			time.Sleep(20 * time.Second)
			slow.mu.Lock()
			slow.queued--
			slow.mu.Unlock()
		}
		if !stalled.closed || slow.closed || h.ResumeStats().Waiting != 1 {
			t.Errorf("stalled: closed %v, slow: closed %v", stalled.closed, slow.closed)
		}
		for _, s := range sessions {
			s.Close()
		}
		_ = h.Close(t.Context())
	})
}

// More live events than are recorded during a read: the client begins with the live stream, and is told.
func TestTooManyEventsDuringRead(t *testing.T) {
	h, emitter, history := gatedHub(t)
	had := positionsOf(t, h, emitter, "h-1", "a")
	history.closed.Store(true)
	session, s := openWithPositions(h)
	follow(t, session, resumeAfter("h-1", had...))
	<-history.begun
	large := strings.Repeat("x", 60_000)
	for range 80 {
		publish(t, emitter, "h-1", large)
	}
	testkit.Eventually(t, "the events", func() bool { return h.Backlog().Shards != nil && backlog(h) == 0 })
	close(history.gate)
	testkit.Eventually(t, "the beginning", func() bool { return len(s.got()) > 1 })
	if got := shown(s.got()); got[1] != "subscribed h-1 too_much 0" {
		t.Errorf("got %.100q", got[1])
	}
	publish(t, emitter, "h-1", "live")
	testkit.Eventually(t, "the live event", func() bool { return strings.HasSuffix(s.got()[len(s.got())-1], "live") })
}

func backlog(h *hub.Hub) (bytes int) {
	for _, n := range h.Backlog().Shards {
		bytes += n
	}
	return bytes
}

// Sessions that close, leave or lose the right while they wait get nothing.
func TestPendingSubscriptionsEnd(t *testing.T) {
	h, emitter, history := gatedHub(t)
	had := positionsOf(t, h, emitter, "h-1", "a", "b")
	history.closed.Store(true)
	closes, _ := openWithPositions(h)
	follow(t, closes, resumeAfter("h-1", had[0]))
	leaves, s := openWithPositions(h)
	follow(t, leaves, resumeAfter("h-1", had[0]))
	<-history.begun
	closes.Close()
	follow(t, leaves, relay.Groups("other-1")...)
	if n, _ := h.Sessions(hub.SessionFilter{Group: "h-1"}, 0, 10); len(n) != 0 {
		t.Errorf("%d sessions are subscribed", len(n))
	}
	close(history.gate)
	publish(t, emitter, "h-1", "live")
	publish(t, emitter, "other-1", "other")
	expectFrames(t, s, "current", "current", "subscribed other-1 - 0", "event other-1 other")
	testkit.Eventually(t, "the end of the wave", func() bool { return h.ResumeStats().Waiting == 0 })
}
