package awx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
	protocol "github.com/edgerelay/edgerelay/relay/protocol/awx"
)

// slowAPI is AWX's API in a test's own time: every answer takes latency.
type slowAPI struct {
	latency time.Duration

	mu     sync.Mutex
	times  []time.Time    // when it was asked
	asked  map[string]int // how often, by login and path
	inside int
	most   int
	status func(login, path string) int // nil: 200
	user   func(login string) string    // nil: the login
}

// RoundTrip implements [http.RoundTripper].
func (a *slowAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	login := r.Header.Get("Cookie") + r.Header.Get("Authorization") + r.Header.Get("X-DAB-JW-TOKEN")
	a.mu.Lock()
	a.times = append(a.times, time.Now())
	if a.asked == nil {
		a.asked = map[string]int{}
	}
	a.asked[login+" "+r.URL.Path]++
	a.inside++
	a.most = max(a.most, a.inside)
	status := a.status
	a.mu.Unlock()
	timer := time.NewTimer(a.latency)
	defer timer.Stop()
	var err error
	select {
	case <-timer.C:
	case <-r.Context().Done():
		err = r.Context().Err()
	}
	a.mu.Lock()
	a.inside--
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	code := 200
	if status != nil {
		code = status(login, r.URL.Path)
	}
	if a.user != nil {
		login = a.user(login)
	}
	body := fmt.Sprintf(`{"results": [{"id": %q, "username": "x"}]}`, login)
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (a *slowAPI) become(status func(login, path string) int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status, a.times, a.asked = status, nil, nil
}

// endSocket is a client that notes what it is told last.
type endSocket struct {
	mu    sync.Mutex
	code  int
	at    time.Time
	texts []string
}

func (s *endSocket) Send(frames []byte, _ int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := bytes.IndexByte(frames, '{'); i >= 0 {
		s.texts = append(s.texts, string(frames[i:]))
	}
	return true
}
func (s *endSocket) SendCopy(frames []byte, limit int) bool { return s.Send(frames, limit) }
func (*endSocket) Ping() bool                               { return true }
func (*endSocket) Waiting() (int, bool)                     { return 0, false }
func (*endSocket) LastRead() time.Time                      { return time.Now() }
func (*endSocket) Kill()                                    {}
func (s *endSocket) Close(code int, _ string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.code == 0 {
		s.code, s.at = code, time.Now()
	}
}

func (s *endSocket) ended() (code int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code, s.at
}

func (s *endSocket) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.texts) == 0 {
		return ""
	}
	return s.texts[len(s.texts)-1]
}

// town is a hub with sessions, and an authorizer that asks an API in the test's own time.
type town struct {
	hub      *relay.Hub
	api      *slowAPI
	auth     *awx.Authorizer
	log      *lines
	sessions []*relay.Session
	sockets  []*endSocket
}

// lines counts the lines of a log by message.
type lines struct {
	mu    sync.Mutex
	count map[string]int
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[r.Message]++
	return nil
}

func (l *lines) of(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[message]
}

// inTown runs test in a bubble with a hub whose authorizer has settings that edit changes.
func inTown(t *testing.T, latency, recheck, grace time.Duration, edit func(*awx.Settings), test func(*testing.T, *town)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		log := &lines{count: map[string]int{}}
		town := &town{hub: relay.NewHub(slog.New(log)), api: &slowAPI{latency: latency}, log: log}
		s := awx.DefaultSettings()
		s.URL, s.Transport = "http://api.invalid", town.api
		if edit != nil {
			edit(&s)
		}
		var err error
		if town.auth, err = awx.NewAuthorizer(s); err != nil {
			t.Fatal(err)
		}
		if err := town.hub.SetBroker(t.Context(), memory.NewLayer().Broker()); err != nil {
			t.Fatal(err)
		}
		limits := relay.DefaultLimits()
		limits.Connections, limits.ConnectionsPerAddress, limits.PendingPerAddress = 0, 0, 0
		town.hub.SetLimits(limits)
		town.hub.SetRecheckGrace(grace)
		town.hub.SetChangeFrame(protocol.GroupsFrame)
		town.hub.SetAuthorizer(town.auth, recheck)
		test(t, town)
		for _, s := range town.sessions {
			s.Close()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = town.hub.Close(ctx)
		town.auth.Close()
	})
}

// enter lets the client of a handshake in.
func (c *town) enter(t *testing.T, r *http.Request) (*relay.Session, *endSocket) {
	t.Helper()
	id, err := c.auth.Authenticate(r)
	if err != nil {
		t.Fatal(err)
	}
	room, err := c.hub.Admit(netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.hub.AdmitUser(id); err != nil {
		t.Fatal(err)
	}
	socket := &endSocket{}
	session := c.hub.Open(socket, id, room)
	c.sessions, c.sockets = append(c.sessions, session), append(c.sockets, socket)
	return session, socket
}

// settle lets n logins with some sessions each in.
func (c *town) settle(t *testing.T, n, each int) {
	t.Helper()
	var all sync.WaitGroup
	for login := range n {
		all.Go(func() {
			r := httptest.NewRequest(http.MethodGet, "/websocket/", nil)
			r.Header.Set("Cookie", fmt.Sprint("awx_sessionid=", login))
			r.RemoteAddr = fmt.Sprintf("10.%d.%d.1:1", login>>8, login&255)
			for {
				_, err := c.auth.Authenticate(r)
				if err == nil {
					return
				}
				if !errors.Is(err, relay.ErrBusy) {
					t.Error(err)
					return
				}
				time.Sleep(time.Second)
			}
		})
		if login%64 == 63 {
			all.Wait()
			for l := login - 63; l <= login; l++ {
				for range each {
					c.enter(t, handshake(fmt.Sprint("Cookie: awx_sessionid=", l)))
				}
			}
		}
	}
	all.Wait()
	for l := n - n%64; l < n; l++ {
		for range each {
			c.enter(t, handshake(fmt.Sprint("Cookie: awx_sessionid=", l)))
		}
	}
}

// most is the greatest number of times within any window.
func most(times []time.Time, window time.Duration) (n int) {
	slices.SortFunc(times, time.Time.Compare)
	first := 0
	for i, at := range times {
		for at.Sub(times[first]) >= window {
			first++
		}
		n = max(n, i-first+1)
	}
	return n
}

// 20,000 logins with 100,000 websockets are rechecked within a minute over an API that takes 150 ms for each answer:
// one question for each login, at an even pace.
func TestRechecksOfAHundredThousandSessions(t *testing.T) {
	const logins, each, recheck = 20_000, 5, time.Minute
	inTown(t, 150*time.Millisecond, recheck, relay.NoGrace, func(s *awx.Settings) { s.Concurrency = 64 }, func(t *testing.T, c *town) {
		c.settle(t, logins, each)
		time.Sleep(recheck)
		c.api.become(nil)
		time.Sleep(recheck)
		c.api.mu.Lock()
		asked, times, atOnce := len(c.api.times), slices.Clone(c.api.times), c.api.most
		c.api.mu.Unlock()
		if asked < logins*99/100 || asked > logins*101/100 {
			t.Errorf("%d questions in %v about %d logins", asked, recheck, logins)
		}
		if n, even := most(times, time.Second), logins/60; n > even*11/10 {
			t.Errorf("%d questions in one second, where evenly spread ones are %d", n, even)
		}
		if lag := c.hub.Rechecks().Lag; lag > time.Second || c.log.of("rechecks of logins are late") > 0 {
			t.Errorf("rechecks are %v late", lag)
		}
		ended := time.Now()
		c.api.become(func(string, string) int { return 401 })
		time.Sleep(recheck + 2*time.Second)
		var latest time.Duration
		for i, s := range c.sockets {
			code, at := s.ended()
			if code != relay.CloseNormal {
				t.Fatalf("session %d is open %v after its login has ended (code %d)", i, time.Since(ended), code)
			}
			latest = max(latest, at.Sub(ended))
		}
		t.Logf("%d questions; %d at once; the last of %d websockets closed after %v", asked, atOnce, len(c.sockets), latest)
		if latest > recheck+time.Second {
			t.Errorf("the last websocket was closed after %v", latest)
		}
	})
}

// When the API is too slow for the interval, the lag says by how much, the other classes keep their shares, and it is
// no more than what the API takes.
func TestRechecksThatDoNotKeepUp(t *testing.T) {
	const logins, recheck = 4000, 10 * time.Second // 400 a second, where 4 slots of 100 ms make 40
	inTown(t, 100*time.Millisecond, recheck, relay.NoGrace, func(s *awx.Settings) { s.Concurrency = 4 }, func(t *testing.T, c *town) {
		start := time.Now()
		c.settle(t, logins, 1)
		time.Sleep(5 * time.Minute)
		if lag := c.hub.Rechecks().Lag; lag < 80*time.Second || lag > 110*time.Second {
			t.Errorf("rechecks are %v late, want about 90s", lag)
		}
		if n := c.log.of("rechecks of logins are late"); n < 2 || n > 1+int(time.Since(start)/time.Minute) {
			t.Errorf("the log says so %d times in %v", n, time.Since(start))
		}
		began := time.Now()
		c.enter(t, handshake("Cookie: awx_sessionid=newcomer"))
		if took := time.Since(began); took > 300*time.Millisecond {
			t.Errorf("a handshake took %v", took)
		}
	})
}

// A right that is withdrawn ends the subscription, and nothing else: one question for all sessions of a login.
func TestWithdrawnRights(t *testing.T) {
	const recheck = time.Minute
	inTown(t, 10*time.Millisecond, recheck, 5*time.Minute, nil, func(t *testing.T, c *town) {
		groups := []string{"job_events-42", "job_events-43", "jobs-status_changed"}
		for range 5 {
			s, _ := c.enter(t, handshake(session))
			if _, err := c.hub.Subscribe(t.Context(), s, groups); err != nil {
				t.Fatal(err)
			}
		}
		_, other := c.enter(t, handshake("Cookie: awx_sessionid=other"))
		if _, err := c.hub.Subscribe(t.Context(), c.sessions[5], groups); err != nil {
			t.Fatal(err)
		}
		c.api.become(nil)
		time.Sleep(recheck + time.Second)
		c.api.mu.Lock()
		for question, n := range c.api.asked {
			if n > 2 {
				t.Errorf("%q was asked %d times in a round", question, n)
			}
		}
		if len(c.api.asked) != 6 {
			t.Errorf("%d questions, want me and two jobs for each of two logins: %v", len(c.api.asked), c.api.asked)
		}
		c.api.mu.Unlock()
		c.api.become(func(login, path string) int {
			if strings.Contains(login, "s1") && path == "/api/v2/jobs/42/" {
				return 403
			}
			return 200
		})
		time.Sleep(recheck + time.Second)
		for i, s := range c.sockets[:5] {
			if want := `{"groups_current": ["job_events-43", "jobs-status_changed"], "groups_left": ["job_events-42"], "groups_joined": []}`; s.last() != want {
				t.Errorf("client %d was told %s, want %s", i, s.last(), want)
			}
		}
		if told := other.last(); told != "" {
			t.Errorf("another login was told %s", told)
		}
		if n := c.hub.Stats().Revoked; n != 5 {
			t.Errorf("%d subscriptions are counted", n)
		}
		// Errors keep what stands.
		c.api.become(func(_, path string) int {
			if path == "/api/v2/jobs/43/" {
				return 500
			}
			return 200
		})
		time.Sleep(recheck + time.Second)
		if n := c.hub.Stats().Revoked; n != 5 {
			t.Errorf("%d subscriptions are counted after an error of the API", n)
		}
		if n := c.hub.Rechecks().Unverified; n != 6 {
			t.Errorf("%d sessions are unverified", n)
		}
		time.Sleep(4*time.Minute + 5*time.Second)
		for i, s := range c.sockets {
			if code, _ := s.ended(); code != relay.CloseTryLater {
				t.Errorf("client %d after the grace time: code %d", i, code)
			}
		}
	})
}

// While the API does not answer, sessions stay open for the grace time since its last answer, and no longer.
func TestGrace(t *testing.T) {
	for _, c := range []struct {
		name           string
		recheck, grace time.Duration
		least, most    time.Duration // until the close, from the API's end on
	}{
		{"five minutes", time.Minute, 5 * time.Minute, 3*time.Minute + 50*time.Second, 5*time.Minute + time.Second},
		{"at once", 10 * time.Second, 0, 0, 11 * time.Second},
		{"without end", time.Minute, relay.NoGrace, time.Hour, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inTown(t, 10*time.Millisecond, c.recheck, c.grace, nil, func(t *testing.T, town *town) {
				town.settle(t, 130, 2)
				time.Sleep(3 * c.recheck)
				down := time.Now()
				town.api.become(func(string, string) int { return 502 })
				time.Sleep(20 * time.Minute)
				for i, s := range town.sockets {
					code, at := s.ended()
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
				if want := len(town.sockets); c.grace >= 0 && town.hub.Stats().Unverified != uint64(want) {
					t.Errorf("%d are counted, want %d", town.hub.Stats().Unverified, want)
				}
			})
		})
	}
}

// An API that comes back within the grace time costs nobody the connection.
func TestGraceIsNotOver(t *testing.T) {
	inTown(t, 10*time.Millisecond, time.Minute, 5*time.Minute, nil, func(t *testing.T, c *town) {
		c.settle(t, 10, 2)
		for range 3 {
			c.api.become(func(string, string) int { return 502 })
			time.Sleep(3*time.Minute + 30*time.Second)
			if n := c.hub.Rechecks().Unverified; n != 20 {
				t.Errorf("%d sessions are unverified while the API is down", n)
			}
			c.api.become(nil)
			time.Sleep(time.Minute + 30*time.Second)
			if n := c.hub.Rechecks().Unverified; n != 0 {
				t.Errorf("%d sessions are unverified afterwards", n)
			}
		}
		for i, s := range c.sockets {
			if code, _ := s.ended(); code != 0 {
				t.Errorf("session %d was closed with %d", i, code)
			}
		}
	})
}

// A check that begins when the grace time ends is waited for: AWX may be back, and slow at first.
func TestTheLastCheckWithinTheGraceTime(t *testing.T) {
	inTown(t, 3*time.Second, time.Minute, 2*time.Minute, nil, func(t *testing.T, c *town) {
		c.settle(t, 10, 1)
		time.Sleep(90 * time.Second)
		down := time.Now()
		c.api.become(func(string, string) int { return 502 })
		time.Sleep(59 * time.Second) // one check of each fails, at most
		c.api.become(nil)
		time.Sleep(2 * time.Minute)
		for i, s := range c.sockets {
			if code, at := s.ended(); code != 0 {
				t.Errorf("session %d was closed with %d, %v after the API went down for 59s", i, code, at.Sub(down))
			}
		}
	})
}

const token = "t0ken"

// newClient is a client that speaks AWX's protocol in a session.
func newClient(h *relay.Hub, s *relay.Session) *protocol.Client {
	return &protocol.Client{
		Shared: &protocol.Shared{Hub: h, Log: slog.New(slog.DiscardHandler)}, Session: s, Token: token,
	}
}

// A client that asks for what it has, to find out whether the relay is still there, costs no question, as long as its
// rights are checked again in every recheck interval; one that asks for anything else does, and a right that has gone
// ends the subscription in any case.
func TestAskingForTheSameCostsNothing(t *testing.T) {
	const recheck = time.Minute
	inTown(t, 10*time.Millisecond, recheck, 5*time.Minute, nil, func(t *testing.T, c *town) {
		session, socket := c.enter(t, handshake(session))
		client := newClient(c.hub, session)
		const both = `{"groups": {"jobs": ["status_changed"], "job_events": [42]}, "xrftoken": "` + token + `"}`
		client.Message(true, []byte(both))
		c.api.become(nil)
		for range 10 {
			time.Sleep(recheck / 20) // longer than an answer is kept, and too short for a recheck
			client.Message(true, []byte(both))
			const same = `{"groups_current": ["jobs-status_changed", "job_events-42"], "groups_left": [], "groups_joined": []}`
			if got := socket.last(); got != same {
				t.Errorf("the answer is %s", got)
			}
		}
		c.api.mu.Lock()
		if len(c.api.asked) > 0 {
			t.Errorf("the API was asked %v", c.api.asked)
		}
		c.api.mu.Unlock()
		client.Message(true, []byte(`{"groups": {"job_events": [42]}, "xrftoken": "`+token+`"}`))
		c.api.mu.Lock()
		if len(c.api.asked) != 1 {
			t.Errorf("another subscription was asked about by %v", c.api.asked)
		}
		c.api.mu.Unlock()
		c.api.become(func(_, path string) int {
			if path == "/api/v2/jobs/42/" {
				return 403
			}
			return 200
		})
		time.Sleep(recheck + time.Second)
		if want := `{"groups_current": [], "groups_left": ["job_events-42"], "groups_joined": []}`; socket.last() != want {
			t.Errorf("a right has gone, and the client was told %s", socket.last())
		}
	})
}

// All clients of a node that has just started are strangers, and those of a company come from one address: all of them
// are let in, also where the API takes half a minute for it.
func TestACompanyComesBackAtOnce(t *testing.T) {
	const clients = 1000
	for _, latency := range []time.Duration{50 * time.Millisecond, 700 * time.Millisecond} { // for each of 29 questions at once
		inTown(t, latency, time.Minute, relay.NoGrace, nil, func(t *testing.T, c *town) {
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
				t.Errorf("with %v for each answer, the last one was let in after %v, want %v", latency, took, want)
			}
		})
	}
}

// slowClassifier takes its time over a subscription.
type slowClassifier struct{ takes time.Duration }

func (slowClassifier) Intercept(events []relay.Event) []relay.Event { return events }
func (c slowClassifier) Classify(context.Context, relay.Identity, string) (uint8, error) {
	time.Sleep(c.takes)
	return 0, nil
}

// A recheck that takes a group away while the client asks for the groups that it has is not undone by the end of its
// message.
func TestAskingForTheSameBringsNothingBack(t *testing.T) {
	const recheck = time.Minute
	inTown(t, 10*time.Millisecond, recheck, 5*time.Minute, nil, func(t *testing.T, c *town) {
		session, socket := c.enter(t, handshake(session))
		client := newClient(c.hub, session)
		const both = `{"groups": {"job_events": [42, 43]}, "xrftoken": "` + token + `"}`
		client.Message(true, []byte(both))
		c.api.become(func(_, path string) int {
			if path == "/api/v2/jobs/42/" {
				return 404
			}
			return 200
		})
		c.hub.SetInterceptor(slowClassifier{recheck + time.Second}) // in the meantime it is checked
		client.Message(true, []byte(both))
		if want := `{"groups_current": ["job_events-43"], "groups_left": [], "groups_joined": []}`; socket.last() != want {
			t.Errorf("the answer is %s", socket.last())
		}
		if page, _ := c.hub.Groups("", relay.GroupsByName, "", 9); len(page) != 1 {
			t.Errorf("it has the groups %v", page)
		}
	})
}

// One user's many logins with many groups, which take longer to check than there is time, make no other user's checks late.
func TestOneUsersRechecksDelayNobodyElse(t *testing.T) {
	const recheck = 10 * time.Second
	inTown(t, 100*time.Millisecond, recheck, relay.NoGrace, func(s *awx.Settings) { s.Concurrency = 4 }, func(t *testing.T, c *town) {
		c.api.user = func(login string) string {
			name, _, _ := strings.Cut(login, ".")
			return name
		}
		session, socket := c.enter(t, handshake("Cookie: awx_sessionid=alice.1"))
		alice := newClient(c.hub, session)
		alice.Message(true, []byte(`{"groups": {"job_events": [42]}, "xrftoken": "`+token+`"}`))
		ids := make([]string, 30)
		for i := range ids {
			ids[i] = fmt.Sprint(100 + i)
		}
		for login := range 60 { // 1,860 questions, 46 s
			s, _ := c.enter(t, handshake(fmt.Sprint("Cookie: awx_sessionid=busy.", login)))
			client := newClient(c.hub, s)
			client.Message(true, []byte(`{"groups": {"job_events": [`+strings.Join(ids, ",")+`]}, "xrftoken": "`+token+`"}`))
		}
		time.Sleep(2 * time.Minute)
		c.api.become(func(_, path string) int {
			if path == "/api/v2/jobs/42/" {
				return 404
			}
			return 200
		})
		time.Sleep(recheck + 3*time.Second)
		if want := `{"groups_current": [], "groups_left": ["job_events-42"], "groups_joined": []}`; socket.last() != want {
			t.Errorf("the right went %v ago, and the client was told %s", recheck+3*time.Second, socket.last())
		}
	})
}
