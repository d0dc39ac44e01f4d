package node

import (
	"net"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// waiter is a connection that notes its end.
type waiter struct {
	net.Conn
	name   string
	closed *[]string
}

func (w *waiter) Close() error {
	*w.closed = append(*w.closed, w.name)
	return nil
}

func TestTheOldestConnectionsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w requestlessConns
		var closed []string
		enter := func(name string, states ...http.ConnState) *waiter {
			c := &waiter{name: name, closed: &closed}
			for _, state := range states {
				w.track(c, state)
			}
			return c
		}
		room := func(emergency bool, want ...string) {
			t.Helper()
			closed = nil
			if n := w.closeOldest(emergency); n != len(want) || !slices.Equal(closed, want) {
				t.Errorf("emergency %v: %d closed, %v; want %v", emergency, n, closed, want)
			}
		}
		room(true)
		old := enter("old", http.StateNew)
		enter("kept", http.StateNew, http.StateActive, http.StateIdle)
		enter("busy", http.StateNew, http.StateActive)
		enter("websocket", http.StateNew, http.StateActive, http.StateHijacked)
		enter("gone", http.StateNew, http.StateClosed)
		time.Sleep(2 * minEvictionAge)
		enter("fresh", http.StateNew)
		room(false, "old")
		w.track(old, http.StateClosed) // as the server does when its read fails
		room(false, "kept")
		room(false)
		room(true, "fresh")
		room(true)
		if n := w.evicted.Load(); n != 3 {
			t.Errorf("%d counted, want 3", n)
		}
		if len(w.places) != 0 {
			t.Errorf("%d connections are kept", len(w.places))
		}
		for range 1000 {
			enter("one of many", http.StateNew)
		}
		time.Sleep(2 * minEvictionAge)
		if n := w.closeOldest(false); n != maxEvictions {
			t.Errorf("of 1000 %d made room, want %d", n, maxEvictions)
		}
	})
}

func BenchmarkTrack(b *testing.B) {
	var w requestlessConns
	c := &waiter{}
	b.ReportAllocs()
	for b.Loop() {
		for _, state := range []http.ConnState{http.StateNew, http.StateActive, http.StateHijacked} {
			w.track(c, state)
		}
	}
}
