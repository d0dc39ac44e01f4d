package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// A relay and a Daphne on one Redis: the clients of both get each event once,
// whoever emits it.
func TestSideBySide(t *testing.T) {
	s := newStage(t)
	r, relay := s.startRelay(t)
	python := peers.StartEmitter(t, s.redis.URL)
	python.Join("job_events-42")

	var clients []*wstest.Client
	for range 3 {
		for _, where := range []site{relay, s.daphne()} {
			clients = append(clients, subscriber(t, where.url, s.logins[peers.Alice], "job_events-42", "jobs-summary"))
		}
	}
	others := []*wstest.Client{
		subscriber(t, relay.url, s.logins[peers.Alice], "job_events-44"),
		subscriber(t, s.daphne().url, s.logins[peers.Alice], "job_events-44"),
	}
	if n := len(python.Members(s.redis.URL, "job_events-42")); n != 3+1+1 {
		t.Errorf("%d members in the group, want one for each client of Daphne, one for the Python process and one for the relay", n)
	}

	var want []string
	text := func(by string) string {
		want = append(want, fmt.Sprintf(`{"n":%d,"by":"%s é"}`, len(want), by))
		return want[len(want)-1]
	}
	for i := range 60 {
		s.emitter.Send(peers.Event{Group: "job_events-42", Text: text("python")})
		publishHTTP(t, r, "job_events-42", text("http"))
		if i%20 == 0 {
			publishCommand(t, r, "job_events-42", text("command"))
		}
	}

	for i, c := range clients {
		if err := expectTexts(c, want); err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
	for i, c := range others {
		if err := nothingMore(c); err != nil {
			t.Errorf("client %d of another group: %v", i, err)
		}
	}
	for i, w := range want {
		var got map[string]any
		raw := python.Receive(patience)
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		if got["type"] != "internal.message" || got["text"] != w {
			t.Fatalf("Python received %s as event %d, want the text %s", raw, i, w)
		}
	}
}
