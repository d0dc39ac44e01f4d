package caddymodule

import (
	"net/http"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// withPositions asks for events with positions, among other subprotocols.
var withPositions = http.Header{
	"Cookie": {"csrftoken=t"}, "Sec-Websocket-Protocol": {"chat.v2", "edgerelay.events.v1"},
}

// The handshake agrees on the subprotocol whatever the configuration, since browsers fail a handshake that agrees on
// none of those they have asked for: with or without a history, and for clients that are not logged in.
func TestSubprotocolIsNegotiated(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", "edgerelay")
	c := s.dial("/websocket/", withPositions)
	if c.Subprotocol() != "edgerelay.events.v1" {
		t.Fatalf("the subprotocol is %q", c.Subprotocol())
	}
	next(t, c, `{"accept": true, "user": 1}`)
	message := strings.Replace(subscription("jobs-summary"), "{", `{"since": {"jobs-summary": "junk"}, `, 1)
	if err := c.Send(message); err != nil {
		t.Fatal(err)
	}
	next(t, c, `{"groups_current": ["jobs-summary"], "groups_left": [], "groups_joined": ["jobs-summary"]}`)
	next(t, c, `{"type":"subscribed","group":"jobs-summary","recovered":false,"reason":"no_history"}`)
	plain := s.dial("/websocket/", csrf)
	next(t, plain, `{"accept": true, "user": 1}`)
	if err := plain.Send(message); err != nil {
		t.Fatal(err)
	}
	next(t, plain, `{"groups_current": ["jobs-summary"], "groups_left": [], "groups_joined": ["jobs-summary"]}`)
	if code, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": {"type": "gap"}}`); code != 200 {
		t.Fatal(code, body)
	}
	next(t, plain, `{"type": "gap"}`)
	got, err := c.Next(patience)
	if err != nil || !strings.HasPrefix(got, `{"type":"event","group":"jobs-summary","time":`) ||
		!strings.HasSuffix(got, `,"event":{"type": "gap"}}`) {
		t.Errorf("%s, %v", got, err)
	}

	s.mustLoad("auth caddy", "edgerelay")
	out := s.dial("/websocket/", withPositions)
	if out.Subprotocol() != "edgerelay.events.v1" {
		t.Errorf("not logged in: the subprotocol is %q", out.Subprotocol())
	}
	next(t, out, `{"close": true}`)
	if _, err := out.Next(patience); wstest.CloseCode(err) != 1000 {
		t.Errorf("not logged in: %v", err)
	}
}

// A history that a reload adds, changes or removes counts for the connections that are open.
func TestReloadChangesHistory(t *testing.T) {
	s := newSite(t)
	begin := func(since, want string) {
		t.Helper()
		c := s.dial("/websocket/", withPositions)
		next(t, c, `{"accept": true, "user": 1}`)
		message := strings.Replace(subscription("jobs-summary"), "{", `{"since": {"jobs-summary": `+since+`}, `, 1)
		if err := c.Send(message); err != nil {
			t.Fatal(err)
		}
		next(t, c, `{"groups_current": ["jobs-summary"], "groups_left": [], "groups_joined": ["jobs-summary"]}`)
		if got, err := c.Next(patience); err != nil || !strings.HasPrefix(got, `{"type":"subscribed","group":"jobs-summary"`) ||
			!strings.HasSuffix(got, want) {
			t.Errorf("%s, %v, want …%s", got, err, want)
		}
	}
	publish := func() {
		t.Helper()
		if code, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": 1}`); code != 200 {
			t.Fatal(code, body)
		}
	}
	s.mustLoad("auth none", "edgerelay")
	witness := s.subscribe("jobs-summary")
	publish()
	next(t, witness, "1")
	begin(`{"latest": 5}`, `jobs-summary"}`)
	s.mustLoad("auth none\nhistory jobs-*", "edgerelay")
	for range 3 {
		publish()
		next(t, witness, "1")
	}
	begin(`{"latest": 5}`, `,"events":3}`)
	s.mustLoad("auth none\nhistory jobs-* {\ncount 2\n}", "edgerelay")
	begin(`{"latest": 5}`, `,"events":2}`)
	s.mustLoad("auth none\nhistory other-*", "edgerelay")
	begin(`{"latest": 5}`, `jobs-summary"}`)
	begin(`"junk"`, `"recovered":false,"reason":"no_history"}`)
}
