package hub_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// lossHub returns a hub with a client of each of groups, the log, and the sockets.
func lossHub(t *testing.T, groups ...string) (*hub.Hub, *bytes.Buffer, []*socket) {
	t.Helper()
	log := &bytes.Buffer{}
	h := hub.New(slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = h.Close(ctx)
	})
	var sockets []*socket
	for _, g := range groups {
		session, s := open(h)
		subscribe(t, h, session, g)
		sockets = append(sockets, s)
	}
	return h, log, sockets
}

func TestResyncIsCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, log, clients := lossHub(t, "a", "b")
		h.SetResync(`"again"`)
		for range 1000 {
			h.Lost(relay.Loss{Cause: relay.LossMembership, Groups: []string{"a"}, Events: 2})
		}
		synctest.Wait()
		time.Sleep(10 * time.Millisecond)
		if n := len(clients[0].got()); n < 1 || n > 2 {
			t.Errorf("the client of a got %d resync messages", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := clients[0].got(); len(got) > 2 || got[0] != `"again"` {
			t.Errorf("the client of a got %q", got)
		}
		if got := clients[1].got(); len(got) != 0 {
			t.Errorf("the client of b got %q", got)
		}
		if n := strings.Count(log.String(), "events may have been lost"); n < 1 || n > 2 {
			t.Errorf("%d lines in the log:\n%s", n, log)
		}
		counts, last := h.Losses()
		if c := counts["membership_restored"]; c.Times != 1000 || c.Events != 2000 ||
			last.Text != "2 events of a were lost (membership_restored)" {
			t.Errorf("counted %+v, the last is %+v", c, last)
		}
	})
}

func TestLossOfAllGroupsIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, clients := lossHub(t, "a", "b")
		h.SetResync(`"again"`)
		session, both := open(h)
		subscribe(t, h, session, "a", "b")
		_, neither := open(h)
		h.Lost(relay.Loss{Cause: relay.LossMailboxFull, All: true})
		time.Sleep(time.Minute)
		for i, s := range append(clients, both) {
			if got := s.got(); !slices.Equal(got, []string{`"again"`}) {
				t.Errorf("client %d got %q", i, got)
			}
		}
		if got := neither.got(); len(got) != 0 {
			t.Errorf("a client without a group got %q", got)
		}
	})
}

func TestResyncIsOffByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, log, clients := lossHub(t, "a")
		h.Lost(relay.Loss{Cause: relay.LossMailboxFull, All: true})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := clients[0].got(); len(got) != 0 {
			t.Errorf("the client got %q", got)
		}
		if !strings.Contains(log.String(), "reason=mailbox_full") {
			t.Errorf("no line in the log: %s", log)
		}
	})
}
