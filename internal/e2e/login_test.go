package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// A login that ends ends its sockets and no others; an API that is away closes
// no connection and lets no client in, and the log says why; many sockets of one login cost
// few questions.
func TestLogin(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	r := peers.StartRelay(t, strings.Replace(s.relayFile(), "auth awx "+s.controller.URL,
		"auth awx "+s.controller.URL+" {\n\t\t\tcache 1s\n\t\t\trecheck 1s\n\t\t}", 1))
	leaving, staying := s.controller.Login(peers.Alice), s.controller.Login(peers.Alice)

	before := s.controller.Hits()["me"]
	var clients []*wstest.Client
	begin := time.Now()
	for range 50 {
		clients = append(clients, subscriber(t, r.URL, staying, "jobs-summary"))
	}
	took := time.Since(begin)
	// One a second while they connect, one a second to check again.
	if hits, most := s.controller.Hits()["me"]-before, 2+2*int(took.Seconds()+1); hits > most {
		t.Errorf("%d sockets of one login in %v cost %d questions who it is, want at most %d", len(clients), took, hits,
			most)
	}

	gone := subscriber(t, r.URL, leaving, "jobs-summary")
	s.controller.Logout(leaving)
	if text, err := gone.Next(patience); err != nil || text != `{"close": true}` {
		t.Fatalf("after the logout: %q, %v; want to be told", text, err)
	}
	if _, err := gone.Next(patience); wstest.CloseCode(err) != 1000 {
		t.Fatalf("after the logout: %v, want a close with 1000", err)
	}

	s.controller.Kill()
	testkit.Eventually(t, "the relay notices that the API is away", func() error {
		if !strings.Contains(r.Log(), "login recheck failed") {
			return errors.New("nothing in the log")
		}
		return nil
	})
	testkit.Eventually(t, "no client is let in without the API", func() error {
		if _, err := trySubscriber(t, r.URL, staying, "jobs-summary"); err == nil {
			return errors.New("a new client was let in")
		}
		return nil
	})
	s.emitter.Send(peers.Event{Group: "jobs-summary", Text: "to all who stay"})
	for i, c := range clients {
		if err := expectTexts(c, []string{"to all who stay"}); err != nil {
			t.Fatalf("client %d while the API is away: %v", i, err)
		}
	}

	s.controller.Restart()
	testkit.Eventually(t, "clients are let in again", func() error {
		_, err := trySubscriber(t, r.URL, staying, "jobs-summary")
		return err
	})
}
