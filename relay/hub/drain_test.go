package hub_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// crowd is the sockets of clients that leave when they are evicted.
func crowd(h *hub.Hub, n int) (sockets []*socket, leave func() (left int)) {
	var sessions []*hub.Session
	for range n {
		session, s := open(h)
		sessions, sockets = append(sessions, session), append(sockets, s)
	}
	return sockets, func() (left int) {
		for i, s := range sockets {
			if code, _ := s.closed(); code != 0 {
				sessions[i].Close()
			} else {
				left++
			}
		}
		return left
	}
}

func TestDrainKeepsItsPace(t *testing.T) {
	for name, pace := range map[string]hub.Pace{
		"duration": {Duration: 400 * time.Millisecond},
		"rate":     {Duration: time.Millisecond, Rate: 500},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newHub(t)
			const clients, takes = 200, 400 * time.Millisecond
			sockets, leave := crowd(h, clients)
			began := time.Now()
			h.Drain(pace)
			if _, err := h.Admit(netip.Addr{}); !errors.Is(err, hub.ErrDraining) {
				t.Errorf("a draining node admits: %v", err)
			}
			late, s := open(h) // admitted before the drain, opened now
			if code, _ := s.closed(); code != relay.CloseRestart {
				t.Errorf("a session opened during the drain is closed with %d", code)
			}
			for h.DrainStatus().State == "draining" {
				before := time.Since(began)
				gone := clients - leave()
				if now := time.Since(began); float64(gone) > clients*float64(now)/float64(takes)+1 {
					t.Fatalf("%d of %d clients evicted after %v", gone, clients, now)
				}
				if before > takes+testkit.Patience {
					t.Fatalf("%d of %d clients evicted after %v, want all", gone, clients, before)
				}
			}
			if past := time.Since(began); past < takes {
				t.Errorf("all clients evicted after %v", past)
			}
			if s := h.DrainStatus(); s.State != "leaving" || s.Evicted != clients || s.Clients != clients {
				t.Errorf("%+v", s)
			}
			late.Close()
			leave()
			if s := h.DrainStatus(); s.State != "drained" || s.Open != 0 {
				t.Errorf("%+v", s)
			}
			for _, s := range sockets {
				if code, _ := s.closed(); code != relay.CloseRestart {
					t.Errorf("closed with %d", code)
				}
			}
		})
	}
}

func TestUndrainKeepsRemainingClients(t *testing.T) {
	h, _ := newHub(t)
	sockets, leave := crowd(h, 50)
	h.Drain(hub.Pace{Duration: time.Hour})
	if s := h.DrainStatus(); s.State != "draining" || s.Clients != 50 || time.Until(s.Ends) < 59*time.Minute {
		t.Errorf("%+v", s)
	}
	if !h.Undrain() || h.Undrain() {
		t.Error("Undrain reports the wrong result; there was a single drain")
	}
	room, err := h.Admit(netip.Addr{})
	if err != nil {
		t.Error(err)
	}
	room.Release()
	if n := leave(); n != 50 {
		t.Errorf("%d of 50 clients connected", n)
	}
	// A drain in progress continues at the new pace.
	h.Drain(hub.Pace{Duration: time.Hour})
	h.Drain(hub.Pace{})
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	go func() {
		for leave() > 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}()
	if err := h.Drained(ctx); err != nil {
		t.Fatal(err)
	}
	if code, _ := sockets[0].closed(); code != relay.CloseRestart {
		t.Errorf("closed with %d", code)
	}
	if s := h.DrainStatus(); s.State != "drained" || s.Clients != 50 || s.Evicted != 50 {
		t.Errorf("%+v", s)
	}
}

// Close during a drain evicts the remaining clients at once.
func TestCloseDuringDrainEvictsAll(t *testing.T) {
	h, _ := newHub(t)
	sockets, leave := crowd(h, 50)
	h.Drain(hub.Pace{Duration: time.Hour})
	done := make(chan error)
	go func() { done <- h.Close(context.Background()) }()
	for _, s := range sockets {
		waitForClose(t, s, relay.CloseRestart)
	}
	leave()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
