package awx_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	protocol "github.com/edgerelay/edgerelay/relay/protocol/awx"
)

// 20,000 logins with 100,000 connections are rechecked within a minute by an API that takes 150 ms per response: one
// request per login, at an even pace.
func TestRechecksOfAHundredThousandSessions(t *testing.T) {
	const logins, each, recheck = 20_000, 5, time.Minute
	inSite(t, 150*time.Millisecond, recheck, relay.NoGrace, concurrency(64), func(t *testing.T, c *site) {
		c.connectLogins(t, logins, each)
		time.Sleep(recheck)
		c.api.setStatus(nil)
		time.Sleep(recheck)
		c.api.mu.Lock()
		requests, times, peak := len(c.api.times), slices.Clone(c.api.times), c.api.most
		c.api.mu.Unlock()
		if requests < logins*99/100 || requests > logins*101/100 {
			t.Errorf("%d requests in %v for %d logins", requests, recheck, logins)
		}
		if n, even := most(times, time.Second), logins/60; n > even*11/10 {
			t.Errorf("%d requests in one second, want about %d", n, even)
		}
		if lag := c.hub.Rechecks().Lag; lag > time.Second || c.log.of("login rechecks are late") > 0 {
			t.Errorf("rechecks are %v late", lag)
		}
		ended := time.Now()
		c.api.setStatus(func(string, string) int { return 401 })
		time.Sleep(recheck + 2*time.Second)
		var latest time.Duration
		for i, s := range c.sockets {
			code, at := s.ended()
			if code != relay.CloseNormal {
				t.Fatalf("session %d is open %v after the logout (code %d)", i, time.Since(ended), code)
			}
			latest = max(latest, at.Sub(ended))
		}
		t.Logf("%d requests; at most %d in flight; the last of %d connections closed after %v", requests, peak,
			len(c.sockets), latest)
		if latest > recheck+time.Second {
			t.Errorf("the last connection was closed after %v", latest)
		}
	})
}

// If the API is too slow for the interval, the lag shows the delay, the delay is bounded by the API's capacity, and
// other classes keep their shares.
func TestRechecksThatFallBehind(t *testing.T) {
	const logins, recheck = 4000, 10 * time.Second // 400 a second, but 4 slots of 100 ms allow 40
	inSite(t, 100*time.Millisecond, recheck, relay.NoGrace, concurrency(4), func(t *testing.T, c *site) {
		start := time.Now()
		c.connectLogins(t, logins, 1)
		time.Sleep(5 * time.Minute)
		if lag := c.hub.Rechecks().Lag; lag < 80*time.Second || lag > 110*time.Second {
			t.Errorf("rechecks are %v late, want about 90s", lag)
		}
		if n := c.log.of("login rechecks are late"); n < 2 || n > 1+int(time.Since(start)/time.Minute) {
			t.Errorf("logged %d times in %v", n, time.Since(start))
		}
		began := time.Now()
		c.connect(t, handshake("Cookie: awx_sessionid=newcomer"))
		if took := time.Since(began); took > 300*time.Millisecond {
			t.Errorf("a handshake took %v", took)
		}
	})
}

// A withdrawn permission ends the subscription and nothing else. All sessions of a login share one request.
func TestWithdrawnPermissions(t *testing.T) {
	const recheck = time.Minute
	inSite(t, 10*time.Millisecond, recheck, 5*time.Minute, nil, func(t *testing.T, c *site) {
		groups := []string{"job_events-42", "job_events-43", "jobs-status_changed"}
		for range 5 {
			s, _ := c.connect(t, handshake(session))
			if _, err := s.Subscribe(t.Context(), relay.Groups(groups...)); err != nil {
				t.Fatal(err)
			}
		}
		_, other := c.connect(t, handshake("Cookie: awx_sessionid=other"))
		if _, err := c.sessions[5].Subscribe(t.Context(), relay.Groups(groups...)); err != nil {
			t.Fatal(err)
		}
		c.api.setStatus(nil)
		time.Sleep(recheck + time.Second)
		c.api.mu.Lock()
		for request, n := range c.api.counts {
			if n > 2 {
				t.Errorf("%q was requested %d times in a round", request, n)
			}
		}
		if len(c.api.counts) != 6 {
			t.Errorf("%d requests, want me/ and two jobs for each of two logins: %v", len(c.api.counts), c.api.counts)
		}
		c.api.mu.Unlock()
		c.api.setStatus(func(login, path string) int {
			if strings.Contains(login, "s1") && path == "/api/v2/jobs/42/" {
				return 403
			}
			return 200
		})
		time.Sleep(recheck + time.Second)
		const want = `{"groups_current": ["job_events-43", "jobs-status_changed"], "groups_left": ["job_events-42"], ` +
			`"groups_joined": []}`
		for i, s := range c.sockets[:5] {
			if s.last() != want {
				t.Errorf("client %d received %s, want %s", i, s.last(), want)
			}
		}
		if frame := other.last(); frame != "" {
			t.Errorf("a client of another login received %s", frame)
		}
		if n := c.hub.Stats().Revoked; n != 5 {
			t.Errorf("%d subscriptions revoked, want 5", n)
		}
		// Errors keep subscriptions.
		c.api.setStatus(func(_, path string) int {
			if path == "/api/v2/jobs/43/" {
				return 500
			}
			return 200
		})
		time.Sleep(recheck + time.Second)
		if n := c.hub.Stats().Revoked; n != 5 {
			t.Errorf("%d subscriptions revoked after an error of the API, want 5", n)
		}
		if n := c.hub.Rechecks().Unverified; n != 6 {
			t.Errorf("%d sessions unverified, want 6", n)
		}
		time.Sleep(4*time.Minute + 5*time.Second)
		for i, s := range c.sockets {
			if code, _ := s.ended(); code != relay.CloseTryLater {
				t.Errorf("client %d after the grace period: code %d", i, code)
			}
		}
	})
}

// While the API fails, sessions stay open for the grace period after the last conclusive response, and no longer.
func TestGracePeriod(t *testing.T) {
	for _, c := range []struct {
		name           string
		recheck, grace time.Duration
		least, most    time.Duration // from the API's failure until the close
	}{
		{"five minutes", time.Minute, 5 * time.Minute, 3*time.Minute + 50*time.Second, 5*time.Minute + time.Second},
		{"immediately", 10 * time.Second, 0, 0, 11 * time.Second},
		{"unlimited", time.Minute, relay.NoGrace, time.Hour, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inSite(t, 10*time.Millisecond, c.recheck, c.grace, nil, func(t *testing.T, s *site) {
				s.connectLogins(t, 130, 2)
				time.Sleep(3 * c.recheck)
				down := time.Now()
				s.api.setStatus(func(string, string) int { return 502 })
				time.Sleep(20 * time.Minute)
				for i, socket := range s.sockets {
					code, at := socket.ended()
					if c.least == time.Hour {
						if code != 0 {
							t.Fatalf("session %d was closed with %d", i, code)
						}
						continue
					}
					if took := at.Sub(down); code != relay.CloseTryLater || took < c.least || took > c.most {
						t.Fatalf("session %d: code %d after %v", i, code, took)
					}
				}
				if want := len(s.sockets); c.grace >= 0 && s.hub.Stats().Unverified != uint64(want) {
					t.Errorf("%d sessions counted, want %d", s.hub.Stats().Unverified, want)
				}
			})
		})
	}
}

// An API that recovers within the grace period costs no client its connection.
func TestRecoveryWithinGracePeriod(t *testing.T) {
	inSite(t, 10*time.Millisecond, time.Minute, 5*time.Minute, nil, func(t *testing.T, c *site) {
		c.connectLogins(t, 10, 2)
		for range 3 {
			c.api.setStatus(func(string, string) int { return 502 })
			time.Sleep(3*time.Minute + 30*time.Second)
			if n := c.hub.Rechecks().Unverified; n != 20 {
				t.Errorf("%d sessions unverified while the API fails, want 20", n)
			}
			c.api.setStatus(nil)
			time.Sleep(time.Minute + 30*time.Second)
			if n := c.hub.Rechecks().Unverified; n != 0 {
				t.Errorf("%d sessions unverified after the recovery, want 0", n)
			}
		}
		for i, s := range c.sockets {
			if code, _ := s.ended(); code != 0 {
				t.Errorf("session %d was closed with %d", i, code)
			}
		}
	})
}

// A check in flight when the grace period ends is awaited: AWX may be back, and slow at first.
func TestLastCheckWithinGracePeriod(t *testing.T) {
	inSite(t, 3*time.Second, time.Minute, 2*time.Minute, nil, func(t *testing.T, c *site) {
		c.connectLogins(t, 10, 1)
		time.Sleep(90 * time.Second)
		down := time.Now()
		c.api.setStatus(func(string, string) int { return 502 })
		time.Sleep(59 * time.Second) // at most one check of each fails
		c.api.setStatus(nil)
		time.Sleep(2 * time.Minute)
		for i, s := range c.sockets {
			if code, at := s.ended(); code != 0 {
				t.Errorf("session %d was closed with %d, %v after a failure of 59s began", i, code, at.Sub(down))
			}
		}
	})
}

const token = "t0ken"

// newClient returns a client of a session that speaks AWX's protocol.
func newClient(h *hub.Hub, s *hub.Session) *protocol.Client {
	return &protocol.Client{
		Shared: &protocol.Shared{Log: slog.New(slog.DiscardHandler)}, Session: s, CSRFToken: token,
	}
}

// A client that repeats its subscriptions, as a keepalive, causes no request while rechecks are on. Any other
// subscription does, and a withdrawn permission still ends the subscription.
func TestRepeatedSubscriptionCausesNoRequest(t *testing.T) {
	const recheck = time.Minute
	inSite(t, 10*time.Millisecond, recheck, 5*time.Minute, nil, func(t *testing.T, c *site) {
		session, socket := c.connect(t, handshake(session))
		client := newClient(c.hub, session)
		const both = `{"groups": {"jobs": ["status_changed"], "job_events": [42]}, "xrftoken": "` + token + `"}`
		client.Message(true, []byte(both))
		c.api.setStatus(nil)
		for range 10 {
			time.Sleep(recheck / 20) // longer than the cache, too short for a recheck
			client.Message(true, []byte(both))
			const same = `{"groups_current": ["jobs-status_changed", "job_events-42"], "groups_left": [], "groups_joined": []}`
			if got := socket.last(); got != same {
				t.Errorf("received %s", got)
			}
		}
		c.api.mu.Lock()
		if len(c.api.counts) > 0 {
			t.Errorf("requested %v", c.api.counts)
		}
		c.api.mu.Unlock()
		client.Message(true, []byte(`{"groups": {"job_events": [42]}, "xrftoken": "`+token+`"}`))
		c.api.mu.Lock()
		if len(c.api.counts) != 1 {
			t.Errorf("another subscription requested %v, want one request", c.api.counts)
		}
		c.api.mu.Unlock()
		c.api.setStatus(func(_, path string) int {
			if path == "/api/v2/jobs/42/" {
				return 403
			}
			return 200
		})
		time.Sleep(recheck + time.Second)
		if want := `{"groups_current": [], "groups_left": ["job_events-42"], "groups_joined": []}`; socket.last() != want {
			t.Errorf("permission withdrawn: received %s, want %s", socket.last(), want)
		}
	})
}

// To a node that has just started, all clients are strangers, and those of an office share one address. All of them
// are authenticated, even if the API takes half a minute for it.
func TestOfficeReconnectsAtOnce(t *testing.T) {
	const clients = 1000
	for _, latency := range []time.Duration{50 * time.Millisecond, 700 * time.Millisecond} { // with 29 requests in flight
		inSite(t, latency, time.Minute, relay.NoGrace, nil, func(t *testing.T, c *site) {
			var all sync.WaitGroup
			began := time.Now()
			for i := range clients {
				all.Go(func() {
					r := handshake(fmt.Sprint("Cookie: awx_sessionid=", i))
					r.RemoteAddr = "192.0.2.7:1"
					if _, err := c.auth.Authenticate(r); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if took, want := time.Since(began), 36*latency; took > want {
				t.Errorf("latency %v: the last client waited %v, want at most %v", latency, took, want)
			}
		})
	}
}

// slowClassifier delays every subscription.
type slowClassifier struct{ takes time.Duration }

func (slowClassifier) Intercept(events []relay.Event) []relay.Event { return events }
func (c slowClassifier) Classify(context.Context, relay.Identity, string) (relay.Classification, error) {
	time.Sleep(c.takes)
	return relay.Classification{}, nil
}

// A client that repeats its subscriptions does not restore one that a recheck ends during the message.
func TestRepeatedSubscriptionRestoresNothing(t *testing.T) {
	const recheck = time.Minute
	inSite(t, 10*time.Millisecond, recheck, 5*time.Minute, nil, func(t *testing.T, c *site) {
		session, socket := c.connect(t, handshake(session))
		client := newClient(c.hub, session)
		const both = `{"groups": {"job_events": [42, 43]}, "xrftoken": "` + token + `"}`
		client.Message(true, []byte(both))
		c.api.setStatus(func(_, path string) int {
			if path == "/api/v2/jobs/42/" {
				return 404
			}
			return 200
		})
		c.hub.SetInterceptor(slowClassifier{recheck + time.Second}) // a recheck happens in the meantime
		client.Message(true, []byte(both))
		if want := `{"groups_current": ["job_events-43"], "groups_left": [], "groups_joined": []}`; socket.last() != want {
			t.Errorf("received %s, want %s", socket.last(), want)
		}
		if page, _ := c.hub.Groups("", hub.GroupsByName, "", 9); len(page) != 1 {
			t.Errorf("groups %v, want one", page)
		}
	})
}

// One user's logins and groups may take longer to recheck than the interval. They delay no other user's rechecks.
func TestRechecksOfOneUserDelayNoOther(t *testing.T) {
	const recheck = 10 * time.Second
	inSite(t, 100*time.Millisecond, recheck, relay.NoGrace, concurrency(4), func(t *testing.T, c *site) {
		c.api.user = func(login string) string {
			name, _, _ := strings.Cut(login, ".")
			return name
		}
		session, socket := c.connect(t, handshake("Cookie: awx_sessionid=alice.1"))
		alice := newClient(c.hub, session)
		alice.Message(true, []byte(`{"groups": {"job_events": [42]}, "xrftoken": "`+token+`"}`))
		ids := make([]string, 30)
		for i := range ids {
			ids[i] = fmt.Sprint(100 + i)
		}
		for login := range 60 { // 1,860 requests, 46 s
			s, _ := c.connect(t, handshake(fmt.Sprint("Cookie: awx_sessionid=busy.", login)))
			client := newClient(c.hub, s)
			client.Message(true, []byte(`{"groups": {"job_events": [`+strings.Join(ids, ",")+`]}, "xrftoken": "`+token+`"}`))
		}
		time.Sleep(2 * time.Minute)
		c.api.setStatus(func(_, path string) int {
			if path == "/api/v2/jobs/42/" {
				return 404
			}
			return 200
		})
		time.Sleep(recheck + 3*time.Second)
		if want := `{"groups_current": [], "groups_left": ["job_events-42"], "groups_joined": []}`; socket.last() != want {
			t.Errorf("permission withdrawn %v ago: received %s, want %s", recheck+3*time.Second, socket.last(), want)
		}
	})
}
