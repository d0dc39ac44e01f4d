package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// fortress is a running relay that attackers come to: behind it an API that knows three logins, beside them a bystander
// whose events have to keep coming.
type fortress struct {
	*peers.Relay
	api *watchtower
}

// fortressFile is a site with `auth awx` and more lines in the global option.
func fortressFile(api, more string) string {
	return `{
	admin {$ADMIN}
	persist_config off
	skip_install_trust
	edgerelay {
		auth awx ` + api + ` {
			cache 2s
			timeout 2s
		}
		` + more + `
	}
}
{$SITE} {
	bind 127.0.0.1
	edgerelay
	respond /smuggled "smuggled"
	respond "next"
}
`
}

func newFortress(t *testing.T, more string) *fortress {
	api := newWatchtower(t)
	return &fortress{peers.StartRelay(t, fortressFile(api.URL, more)), api}
}

// watchtower is AWX's API as the relay asks it. It reads cookies as Django does, and remembers what it was asked.
type watchtower struct {
	*httptest.Server
	mu    sync.Mutex
	asked []*http.Request
	// odd answers logins that are none.
	odd map[string]http.HandlerFunc
}

// logins maps session cookies to user ids; sights says which jobs a user sees.
var (
	logins = map[string]int{"alice": 2, "bob": 3, "carol": 4}
	sights = map[int]string{2: " 42 44 ", 3: " 43 44 ", 4: " "}
)

func newWatchtower(t *testing.T) *watchtower {
	a := &watchtower{odd: map[string]http.HandlerFunc{}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

// djangoSession is the session cookie that Django reads from a Cookie header: of several the last.
func djangoSession(cookie string) (session string) {
	for pair := range strings.SplitSeq(cookie, ";") {
		name, value, ok := strings.Cut(pair, "=")
		if ok && strings.TrimSpace(name) == "awx_sessionid" {
			session = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return session
}

func (a *watchtower) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	session := djangoSession(r.Header.Get("Cookie"))
	a.mu.Lock()
	a.asked = append(a.asked, r.Clone(r.Context()))
	odd := a.odd[session]
	a.mu.Unlock()
	if odd != nil {
		odd(w, r)
		return
	}
	id, ok := logins[session]
	path := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	switch {
	case !ok:
		w.WriteHeader(http.StatusUnauthorized)
	case len(path) == 3 && path[2] == "me":
		fmt.Fprintf(w, `{"count": 1, "results": [{"id": %d, "username": %q}]}`, id, session)
	case len(path) == 4 && strings.Contains(sights[id], " "+path[3]+" "):
		fmt.Fprint(w, "{}")
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// questions returns what was asked since the last call.
func (a *watchtower) questions() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := a.asked
	a.asked = nil
	return asked
}

// wire connects to the site.
func (f *fortress) wire(t testing.TB) *wstest.Wire {
	t.Helper()
	w, err := wstest.DialWire(t, f.URL)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// enter connects as a user with the csrftoken "t", and reads the greeting.
func (f *fortress) enter(t testing.TB, login string) *wstest.Wire {
	t.Helper()
	w := f.wire(t)
	if err := w.Shake("/websocket/", "Cookie: awx_sessionid="+login+"; csrftoken=t"); err != nil {
		t.Fatal(err)
	}
	if got, want := nextText(t, w), fmt.Sprintf(`{"accept": true, "user": %d}`, logins[login]); got != want {
		t.Fatalf("greeted with %q, want %q", got, want)
	}
	return w
}

// nextText reads frames up to the next text.
func nextText(t testing.TB, w *wstest.Wire) string {
	t.Helper()
	for {
		f, err := w.Frame()
		if err != nil {
			t.Fatal(err)
		}
		if f.First == 0x81 {
			return string(f.Payload)
		}
		if f.First == 0x88 {
			t.Fatalf("closed with % x", f.Payload)
		}
	}
}

// say sends a text message.
func say(t testing.TB, w *wstest.Wire, text string) {
	t.Helper()
	if err := w.Write(wstest.MaskedFrame(0x81, text)); err != nil {
		t.Fatal(err)
	}
}

// groupsOf reads answers until a subscription is answered; errors before it are returned, too.
func groupsOf(t testing.TB, w *wstest.Wire) (current, refusals []string) {
	t.Helper()
	for {
		text := nextText(t, w)
		var answer struct {
			Current []string `json:"groups_current"`
			Error   string   `json:"error"`
		}
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		switch {
		case answer.Current != nil:
			return answer.Current, refusals
		case answer.Error == "":
			t.Fatalf("got %.200s", text)
		}
		refusals = append(refusals, answer.Error)
	}
}

// bystander gets an event every 20 ms until the test ends, and complains of each that is lost or late.
func (f *fortress) bystander(t *testing.T) {
	t.Helper()
	c, _, err := wstest.Dial(t, f.URL+"/websocket/", http.Header{"Cookie": {"awx_sessionid=carol; csrftoken=t"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := expectKey(c, "accept"); err != nil {
		t.Fatal(err)
	}
	if answer, err := ask(c, peers.Login{CSRF: "t"}, "bystander-1"); err != nil || answer["groups_current"] == nil {
		t.Fatal(answer, err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- func() error {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return nil
				case <-tick.C:
				}
				began := time.Now()
				resp, err := http.Post(f.Admin+"/edgerelay/publish", "application/json",
					strings.NewReader(fmt.Sprintf(`{"group": "bystander-1", "data": %d}`, n)))
				if err != nil {
					return err
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				got, err := c.Next(10 * time.Second)
				if err != nil || got != strconv.Itoa(n) {
					return fmt.Errorf("event %d: %q, %w", n, got, errors.Join(err, errors.New("lost")))
				}
				if took := time.Since(began); took > 5*time.Second {
					return fmt.Errorf("event %d came after %v", n, took)
				}
			}
		}()
	}()
	t.Cleanup(func() {
		close(stop)
		if err := <-done; err != nil {
			t.Errorf("a bystander: %v", err)
		}
	})
}

// heap is what the relay holds after a collection, in bytes.
func (f *fortress) heap(t *testing.T) int64 {
	t.Helper()
	s := &siege{t: t, relay: f.Relay}
	return s.usage().heap
}
