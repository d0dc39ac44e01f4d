package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// authority is a stand-in for AWX's API whose answers, and the time they take, a test sets.
type authority struct {
	*httptest.Server

	mu      sync.Mutex
	latency time.Duration
	failing bool
	ended   map[string]bool // logins that have ended
	hidden  map[string]bool // paths of objects that are not to be seen
	asked   map[string]int  // requests by path
	waiting int             // requests that are not answered yet
	headers []http.Header   // of all requests
}

// newAuthority knows as user n everybody whose login is "user-n" or "user-n-…": as session cookie, bearer token or
// token of the gateway.
func newAuthority(t *testing.T) *authority {
	a := &authority{ended: map[string]bool{}, hidden: map[string]bool{}, asked: map[string]int{}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

var knownLogin = regexp.MustCompile(`^user-([0-9]+)(-.*)?$`)

// login is what AWX takes as a request's login on its HTTP API: the gateway's token, then a bearer token, then the
// session.
func (a *authority) login(r *http.Request) string {
	if token := r.Header.Get("X-DAB-JW-TOKEN"); token != "" {
		return gatewayLogin(token)
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return token
	}
	c, err := r.Cookie("awx_sessionid")
	if err != nil {
		return ""
	}
	return c.Value
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked[r.URL.Path]++
	a.headers = append(a.headers, r.Header.Clone())
	a.waiting++
	latency := a.latency
	a.mu.Unlock()
	defer a.set(func() { a.waiting-- })
	select {
	case <-time.After(latency):
	case <-r.Context().Done():
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	login := a.login(r)
	user := knownLogin.FindStringSubmatch(login)
	switch {
	case a.failing:
		w.WriteHeader(http.StatusBadGateway)
	case user == nil || a.ended[login]:
		w.WriteHeader(http.StatusUnauthorized)
	case a.hidden[r.URL.Path]:
		w.WriteHeader(http.StatusNotFound)
	default:
		_, _ = fmt.Fprintf(w, `{"results": [{"id": %s, "username": %q}]}`, user[1], "name-"+user[1])
	}
}

// set changes what is answered.
func (a *authority) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (a *authority) pending() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.waiting
}

func (a *authority) count(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[path]
}

// site is a relay with this API, with settings of auth awx and global options.
func (a *authority) site(t *testing.T, settings, edgerelay, servers string) *peers.Relay {
	t.Helper()
	return peers.StartRelay(t, `{
	admin {$ADMIN}
	`+servers+`
	edgerelay {
		auth awx `+a.URL+` {
			`+settings+`
		}
		`+edgerelay+`
	}
}
{$SITE} {
	edgerelay
}`)
}

// behindProxy lets handshakes name their client's address.
const behindProxy = "servers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t\ttrusted_proxies_strict\n\t}"

// as is the header of a user's handshake from an address.
func as(login, address string) http.Header {
	h := http.Header{"Cookie": {"csrftoken=t; awx_sessionid=" + login}}
	if address != "" {
		h.Set("X-Forwarded-For", address)
	}
	return h
}

// enter opens a websocket and reads the greeting. It returns how long that took.
func enter(t *testing.T, r *peers.Relay, h http.Header) (*wstest.Client, time.Duration) {
	t.Helper()
	began := time.Now()
	c, _, err := wstest.Dial(t, r.URL+"/websocket/", h)
	if err != nil {
		t.Fatalf("%v: %v", h, err)
	}
	if _, err := expectKey(c, "accept"); err != nil {
		t.Fatalf("%v: %v", h, err)
	}
	return c, time.Since(began)
}

// askFor subscribes to groups, as a JSON object, and returns the groups that the client has then.
func askFor(t *testing.T, c *wstest.Client, groups string) []any {
	t.Helper()
	if err := c.Send(`{"groups": ` + groups + `, "xrftoken": "t"}`); err != nil {
		t.Fatal(err)
	}
	answer, err := expectKey(c, "groups_current")
	if err != nil {
		t.Fatal(err)
	}
	return answer["groups_current"].([]any)
}

// metric returns a sample of the relay's metrics, 0 if there is none.
func metric(t *testing.T, r *peers.Relay, sample string) float64 {
	t.Helper()
	for line := range strings.SplitSeq(fetch(t, r.Admin+"/metrics"), "\n") {
		if value, ok := strings.CutPrefix(line, sample+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// atLeast returns an error while a sample is smaller.
func atLeast(t *testing.T, r *peers.Relay, sample string, want float64) error {
	t.Helper()
	if got := metric(t, r, sample); got < want {
		return fmt.Errorf("%s is %g, want %g", sample, got, want)
	}
	return nil
}

// logLines returns the messages of the relay's log at a level.
func logLines(r *peers.Relay, level string) (messages []string) {
	for line := range strings.SplitSeq(r.Log(), "\n") {
		var l struct{ Level, Logger, Msg string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Level == level && l.Logger == "edgerelay" {
			messages = append(messages, l.Msg)
		}
	}
	return messages
}

// Clients that hang up while the API is thinking are no failure of the API: no alarm, no error in the log.
func TestClientsThatHangUpAreNotErrorsOfTheAPI(t *testing.T) {
	t.Parallel()
	api := newAuthority(t)
	api.set(func() { api.latency = time.Minute })
	r := api.site(t, "concurrency 4\n\t\t\ttimeout 1m", "", "")
	const strangers = 12
	var wires []*wstest.Wire
	for i := range strangers {
		w, err := wstest.DialWire(t, r.URL)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(w.Handshake("/websocket/", fmt.Sprint("Cookie: awx_sessionid=stranger-", i))); err != nil {
			t.Fatal(err)
		}
		wires = append(wires, w)
	}
	testkit.Eventually(t, "the API is asked", func() error {
		if n := api.pending(); n < 4 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	for _, w := range wires {
		w.Close()
	}
	testkit.Eventually(t, "the questions are dropped", func() error {
		if n := api.pending(); n > 0 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	api.set(func() { api.latency = 0 })
	enter(t, r, as("user-7", ""))
	if n := metric(t, r, `edgerelay_auth_responses_total{about="user",result="error"}`); n > 0 {
		t.Errorf("%g errors of the API are counted", n)
	}
	if bad := logLines(r, "error"); len(bad) > 0 {
		t.Errorf("%d lines at level error, such as %q", len(bad), bad[0])
	}
	testkit.Eventually(t, "they are counted", func() error {
		return errors.Join(
			atLeast(t, r, `edgerelay_connections_ended_total{reason="client_gone"}`, strangers),
			atLeast(t, r, `edgerelay_auth_aborted_total{about="user",reason="client_gone"}`, strangers))
	})
}
