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
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
	protocol "github.com/edgerelay/edgerelay/relay/protocol/awx"
)

// slowAPI is AWX's API with synthetic time: every response takes latency.
type slowAPI struct {
	latency time.Duration

	mu     sync.Mutex
	times  []time.Time    // of requests
	counts map[string]int // number of requests by login and path
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
	if a.counts == nil {
		a.counts = map[string]int{}
	}
	a.counts[login+" "+r.URL.Path]++
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
	return &http.Response{
		StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}, nil
}

// setStatus changes the status codes and forgets the requests so far.
func (a *slowAPI) setStatus(status func(login, path string) int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status, a.times, a.counts = status, nil, nil
}

// endSocket records the frames and the close code that a client receives.
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

// site is a hub with sessions whose authorizer uses a slowAPI.
type site struct {
	hub      *hub.Hub
	api      *slowAPI
	auth     *awx.Authorizer
	log      *logCounter
	sessions []*hub.Session
	sockets  []*endSocket
}

// logCounter counts log records by message.
type logCounter struct {
	mu    sync.Mutex
	count map[string]int
}

func (l *logCounter) Enabled(context.Context, slog.Level) bool { return true }
func (l *logCounter) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logCounter) WithGroup(string) slog.Handler            { return l }
func (l *logCounter) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[r.Message]++
	return nil
}

func (l *logCounter) of(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[message]
}

// inSite runs test with synthetic time. edit changes the authorizer's settings.
func inSite(
	t *testing.T, latency, recheck, grace time.Duration, edit func(*awx.Settings), test func(*testing.T, *site),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		log := &logCounter{count: map[string]int{}}
		s := &site{hub: hub.New(slog.New(log)), api: &slowAPI{latency: latency}, log: log}
		settings := awx.DefaultSettings()
		settings.URL, settings.Transport = "http://api.invalid", s.api
		if edit != nil {
			edit(&settings)
		}
		var err error
		if s.auth, err = awx.NewAuthorizer(settings); err != nil {
			t.Fatal(err)
		}
		if err := s.hub.SetBroker(t.Context(), memory.NewLayer().Broker()); err != nil {
			t.Fatal(err)
		}
		limits := relay.DefaultLimits()
		limits.Connections, limits.ConnectionsPerAddress, limits.PendingPerAddress = 0, 0, 0
		s.hub.SetLimits(limits)
		s.hub.SetRecheckGrace(grace)
		s.hub.SetProtocol(protocol.Protocol{})
		s.hub.SetAuthorizer(s.auth, recheck)
		test(t, s)
		for _, session := range s.sessions {
			session.Close()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = s.hub.Close(ctx)
		s.auth.Close()
	})
}

// concurrency sets how many requests may be in flight.
func concurrency(n int) func(*awx.Settings) { return func(s *awx.Settings) { s.Concurrency = n } }

// connect opens a session for a handshake.
func (c *site) connect(t *testing.T, r *http.Request) (*hub.Session, *endSocket) {
	t.Helper()
	id, err := c.auth.Authenticate(r)
	if err != nil {
		t.Fatal(err)
	}
	reservation, err := c.hub.Admit(netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := reservation.Identify(id); err != nil {
		t.Fatal(err)
	}
	socket := &endSocket{}
	session := reservation.Open(socket)
	c.sessions, c.sockets = append(c.sessions, session), append(c.sockets, socket)
	return session, socket
}

// connectLogins opens a number of sessions for each of n logins.
func (c *site) connectLogins(t *testing.T, n, each int) {
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
					c.connect(t, handshake(fmt.Sprint("Cookie: awx_sessionid=", l)))
				}
			}
		}
	}
	all.Wait()
	for l := n - n%64; l < n; l++ {
		for range each {
			c.connect(t, handshake(fmt.Sprint("Cookie: awx_sessionid=", l)))
		}
	}
}

// most returns the largest number of times within any window.
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
