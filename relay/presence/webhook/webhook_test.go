package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/presence"
	"github.com/edgerelay/edgerelay/relay/presence/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a site that fails in some way before it answers.
type site struct {
	mu      sync.Mutex
	answers []func(w http.ResponseWriter, r *http.Request) // of the first requests
	bodies  []string
	headers []http.Header
	tries   int
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.tries++
	var answer func(w http.ResponseWriter, r *http.Request)
	if len(s.answers) > 0 {
		answer, s.answers = s.answers[0], s.answers[1:]
	} else {
		s.bodies, s.headers = append(s.bodies, string(body)), append(s.headers, r.Header)
	}
	s.mu.Unlock()
	if answer != nil {
		answer(w, r)
	}
}

// events returns the types of the events that the site has taken, each ID once.
func (s *site) events() (types []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	for _, body := range s.bodies {
		var b struct{ Events []struct{ ID, Type string } }
		if err := json.Unmarshal([]byte(body), &b); err != nil {
			return []string{err.Error()}
		}
		for _, e := range b.Events {
			if !seen[e.ID] {
				seen[e.ID] = true
				types = append(types, e.Type)
			}
		}
	}
	return types
}

// Nothing is lost or swapped by a site that answers 500, ends the connection, or does not answer at once.
func TestEventsReachFailingSite(t *testing.T) {
	hang := make(chan struct{})
	s := &site{answers: []func(http.ResponseWriter, *http.Request){
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, _ *http.Request) {
			<-hang
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
	}}
	server := httptest.NewServer(s)
	defer server.Close()
	hook := webhook.New(server.URL+"/presence", "secret", nil)
	defer hook.Close()
	tracker := presence.New(presence.Settings{
		Store: presence.NewMemory(presence.Times{}, nil), Webhooks: []presence.Webhook{hook},
		Publish:      func(context.Context, relay.Message) error { return nil },
		TendInterval: 20 * time.Millisecond,
	})
	defer func() { _ = tracker.Close(context.Background()) }()
	p := &presence.Policy{Webhook: hook.ID(), WebhookUsers: true}
	tracker.Enter(presence.Key{Group: "room", User: `"ann"`}, 1, `{"name": "Ann"}`, p)
	if _, err := tracker.List(context.Background(), "room", 1); err != nil {
		t.Fatal(err)
	}
	tracker.Leave(presence.Key{Group: "room", User: `"ann"`}, 1)
	testkit.Eventually(t, "the site is asked", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.tries == 3
	})
	close(hang)
	testkit.EventuallyWithin(t, 30*time.Second, "all events arrive", func() error {
		if got := strings.Join(s.events(), " "); got != "occupied joined left vacated" {
			return errors.New(got)
		}
		return nil
	})
	if st := tracker.Stats(); st.CallsFailed < 4 || st.CallsQueued != 4 {
		t.Errorf("stats: %+v", st)
	}
}

func TestRequest(t *testing.T) {
	s := &site{}
	server := httptest.NewServer(s)
	defer server.Close()
	hook := webhook.New(server.URL, "secret", nil)
	defer hook.Close()
	at := time.Date(2026, 11, 29, 5, 0, 0, 0, time.UTC)
	call := presence.Call{
		ID: "E-1-0", Type: "occupied", Key: presence.Key{Group: "room", User: "7"}, Info: `{"n": "<é>"}`, Count: 1, Time: at,
	}
	if err := hook.Send(context.Background(), []presence.Call{call}); err != nil {
		t.Fatal(err)
	}
	want := `{"events":[{"id":"E-1-0","type":"occupied","group":"room","user":7,"info":{"n":"<é>"},"count":1,` +
		`"time":"2026-11-29T05:00:00Z"}]}` + "\n"
	if s.bodies[0] != want {
		t.Errorf("body: got %s, want %s", s.bodies[0], want)
	}
	if got := s.headers[0].Get("Content-Type"); got != "application/json" {
		t.Errorf("content type: got %s", got)
	}
	var unix int64
	var mac string
	if _, err := fmt.Sscanf(s.headers[0].Get(webhook.SignatureHeader), "t=%d,v1=%s", &unix, &mac); err != nil || len(mac) != 64 {
		t.Errorf("signature: %v", s.headers[0])
	}
}

// The verification that docs/presence.md shows accepts the signature.
func TestVerificationInPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("python3 is missing; run scripts/install-test-deps.sh: ", err)
	}
	signature := webhook.Sign([]byte("secret"), time.Now(), []byte(`{"events": []}`))
	const script = `
import hashlib, hmac, sys, time
header, body = sys.argv[1], sys.argv[2].encode()
t, v1 = (part.split("=", 1)[1] for part in header.split(","))
expected = hmac.new(b"secret", f"{t}.".encode() + body, hashlib.sha256).hexdigest()
if not hmac.compare_digest(v1, expected) or abs(time.time() - int(t)) > 300:
    sys.exit("refused")
`
	for body, accepted := range map[string]bool{`{"events": []}`: true, `{"events": [1]}`: false} {
		if err := exec.Command(python, "-c", script, signature, body).Run(); (err == nil) != accepted {
			t.Errorf("%s: %v", body, err)
		}
	}
}
