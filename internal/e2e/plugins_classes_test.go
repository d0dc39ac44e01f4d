package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// A module with other classes is deployed while clients are subscribed: no client gets an event as the new module shows
// it to the client's former class, and a client that the new module denies loses the group.
func TestDeployedPluginReclassifiesClients(t *testing.T) {
	s := newStage(t)
	// The module actor puts all users into class 0, which sees everything. The module classes puts superusers into
	// class 1, which sees everything, and denies bob the group jobs-secret.
	r := peers.StartRelay(t, s.withPlugins(plugin("classes", guest(t, "actor"), "groups jobs-summary jobs-secret",
		"grant emit kv metrics clock")))
	alice := subscriber(t, r.URL, s.logins[peers.Alice], "jobs-summary")
	admin := subscriber(t, r.URL, s.logins[peers.Admin], "jobs-summary")
	bob := subscriber(t, r.URL, s.logins[peers.Bob], "jobs-secret")

	// view is what a client gets: an event with its number, or the end of a subscription.
	type view struct {
		N      int
		Secret string
		Left   []string `json:"groups_left"`
		text   string
	}
	sent := 0
	// next sends events until the client gets a text, other than of an event before the number from.
	next := func(who string, c *wstest.Client, from int) (v view) {
		t.Helper()
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			sent++
			text := fmt.Sprintf(`{"n": %d, "secret": "s3cret"}`, sent)
			s.emitter.Send(peers.Event{Group: "jobs-summary", Text: text}, peers.Event{Group: "jobs-secret", Text: text})
			for {
				text, err := c.Next(50 * time.Millisecond)
				if err != nil {
					break // withheld: the next event
				}
				v = view{text: text}
				if err := json.Unmarshal([]byte(text), &v); err != nil || strings.Contains(text, `"for"`) {
					t.Fatalf("%s got %q", who, text)
				}
				if v.N >= from || v.Left != nil {
					return v
				}
			}
		}
		t.Fatalf("%s gets nothing in %v; the relay's log:\n%s", who, patience, r.Log())
		return v
	}
	deploy := func(module string) (from int) {
		t.Helper()
		if code, body := pluginCall(t, r, http.MethodPut, "classes", guestBytes(t, module)); code != http.StatusOK {
			t.Fatalf("PUT: %d %s", code, body)
		}
		return sent + 1
	}
	for who, c := range map[string]*wstest.Client{"alice": alice, "admin": admin, "bob": bob} {
		if v := next(who, c, 1); v.Secret != "s3cret" {
			t.Fatalf("%s got %q from the first module, want all", who, v.text)
		}
	}

	from := deploy("classes")
	if v := next("bob", bob, from); fmt.Sprint(v.Left) != "[jobs-secret]" {
		t.Errorf("bob got %q from a module that denies the group, want its end", v.text)
	}
	for range 3 {
		if v := next("alice", alice, from); v.Secret != "***" {
			t.Errorf("alice got %q, want the view of class 0 of the second module", v.text)
		}
		if v := next("admin", admin, from); v.Secret != "s3cret" {
			t.Errorf("admin got %q, want the view of class 1 of the second module", v.text)
		}
	}

	// The actor shows class 1, the former class of admin, a member "for", and next fails on that.
	from = deploy("actor")
	for range 3 {
		if v := next("admin", admin, from); v.Secret != "s3cret" {
			t.Errorf("admin got %q, want the view of class 0 of the first module", v.text)
		}
	}
	if !strings.Contains(r.Log(), "subscriptions reclassified") {
		t.Error("the log does not tell that subscriptions were classified again")
	}
}

// The last event of a burst reaches clients by a plugin's tick, without another event.
func TestTicksReachClients(t *testing.T) {
	s := newStage(t)
	r := peers.StartRelay(t, s.withPlugins(plugin("ticker", guest(t, "ticker"), "groups tags-*",
		"grant emit tick 100ms", "config `{\"drop\": true}`")))
	c := subscriber(t, r.URL, s.logins[peers.Alice], "tags-1")
	for n := range 5 {
		s.emitter.Send(peers.Event{Group: "tags-1", Text: fmt.Sprintf(`{"n": %d}`, n)})
	}
	for text := ""; text != `{"n": 4}`; {
		var err error
		if text, err = c.Next(patience); err != nil {
			t.Fatalf("%v; the relay's log:\n%s", err, r.Log())
		}
	}
	if row := pluginRowOf(t, r, "ticker"); row.Tick != "100ms" || row.Ticks == 0 || row.Dropped != 5 {
		t.Errorf("the plugin has %d ticks at %s and %d dropped events", row.Ticks, row.Tick, row.Dropped)
	}
}
