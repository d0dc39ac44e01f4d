package caddymodule

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// auth http asks the site about the login and about groups that the response does not name. A withdrawn login ends.
func TestAuthHTTP(t *testing.T) {
	var out atomic.Bool
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := r.Cookie("sessionid")
		if err != nil || out.Load() || r.Header.Get("X-Edgerelay-Key") != "k" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		groups := `"news"`
		if r.FormValue("group") == "orders-1" {
			groups = `"orders-1"`
		}
		_, _ = fmt.Fprintf(w, `{"user": {"id": 7, "name": %q}, "groups": [%s]}`, c.Value, groups)
	}))
	defer endpoint.Close()
	s := newSite(t)
	s.mustLoad("auth http "+endpoint.URL+" {\nkey k\nrecheck 100ms\ncache 1ms\n}", "edgerelay")
	header := http.Header{"Cookie": {"sessionid=ann; csrftoken=t"}}
	c := s.dial("/websocket/", header)
	next(t, c, `{"accept": true, "user": 7}`)
	for _, group := range []string{"news-1", "orders-1", "orders-2"} {
		if err := c.Send(subscription(group)); err != nil {
			t.Fatal(err)
		}
		text, err := c.Next(patience)
		if err != nil || strings.Contains(text, `"groups_current": ["`+group) != (group == "orders-1") {
			t.Errorf("%s: %q, %v", group, text, err)
		}
		if strings.Contains(text, "error") { // the answer about the groups follows
			_, _ = c.Next(patience)
		}
	}
	out.Store(true)
	testkit.Eventually(t, "the end of the login", func() bool {
		text, err := c.Next(patience)
		return err != nil || text == `{"close": true}`
	})
}

// A route with "authorize on" asks about groups that it would grant.
func TestAuthorizeAsksAboutEveryGroup(t *testing.T) {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		groups := "[]"
		if r.Header.Get("Cookie") == "sessionid=staff" {
			groups = `["staff"]`
		}
		_, _ = fmt.Fprintf(w, `{"user": 7, "groups": %s}`, groups)
	}))
	defer endpoint.Close()
	s := newSite(t)
	load := func(setting string) {
		s.mustLoad("auth http "+endpoint.URL, "edgerelay {\nroute /ws/staff/ {\ngroups staff\n"+setting+"\non x json\n}\n}")
	}
	load("")
	c := s.dialRoute("/ws/staff/", http.Header{"Cookie": {"sessionid=customer"}})
	load("authorize on")
	c.closed(1012)
	if resp, _ := s.ask("/ws/staff/", "Cookie: sessionid=customer"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a customer: %d", resp.StatusCode)
	}
	staff := s.dialRoute("/ws/staff/", http.Header{"Cookie": {"sessionid=staff"}})
	s.emit("staff", "x", `{"type": "x"}`)
	staff.next(`{"type": "x"}`)
}

// A user who has left a team, or lost one of the groups that its messages go to, reconnects.
func TestWithdrawnRightsEndClientsOfRoutes(t *testing.T) {
	var answer atomic.Pointer[string]
	set := func(text string) { answer.Store(&text) }
	set(`{"user": {"id": 7, "teams": ["a", "b"]}, "groups": ["room_1", "news"]}`)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, *answer.Load())
	}))
	defer endpoint.Close()
	s := newSite(t)
	s.mustLoad("auth http "+endpoint.URL+" {\nrecheck 100ms\ncache 1ms\n}", `edgerelay {
	route /ws/teams/ {
		groups team_{user.teams}
		on x value v
	}
	route /ws/rooms/{room}/ {
		groups user_{user} room_{room}
		on x value v
		messages publish x json v {
			to room_{room}
		}
	}
}`)
	header := http.Header{"Cookie": {"sessionid=ann"}}
	team, again, room := s.dialRoute("/ws/teams/", header), s.dialRoute("/ws/teams/", header), s.dialRoute("/ws/rooms/1/", header)
	set(`{"user": {"id": 7, "teams": ["a"]}, "groups": ["room_1"]}`)
	team.closed(1012)
	again.closed(1012)
	room.send(`{"v": 1}`)
	room.next("1")
	set(`{"user": {"id": 7, "teams": ["a"]}, "groups": []}`)
	room.closed(1012)
}

// auth caddy permits the groups of its rules, and none without rules. A reload with other rules ends connections.
func TestRulesOfAuthCaddy(t *testing.T) {
	const user = "map {header.X-User} {http.auth.user.id} {\n~(.+) \"${1}\"\n}\n" +
		"map {header.X-Team} {http.auth.user.team} {\n~(.+) \"${1}\"\n}\nedgerelay {\nroute /ws/{group}/ {\ngroups {group}\n}\n}"
	s := newSite(t)
	status := func(group string, headers ...string) int {
		t.Helper()
		resp, _ := s.ask("/ws/"+group+"/", headers...)
		return resp.StatusCode
	}
	s.mustLoad("auth caddy", user)
	if got := status("orders-7", "X-User: 7"); got != 403 {
		t.Errorf("without rules: %d", got)
	}
	s.mustLoad("auth caddy {\nallow orders-{user} team-{user.team}-* shop-{http.request.header.X-Shop}\n}", user)
	for _, c := range []struct {
		group   string
		headers []string
		want    int
	}{
		{"orders-7", []string{"X-User: 7"}, 101},
		{"orders-8", []string{"X-User: 7"}, 403},
		{"orders-7", []string{"X-User: *"}, 403},
		{"team-a-1", []string{"X-User: 7", "X-Team: a"}, 101},
		{"team-b-1", []string{"X-User: 7", "X-Team: a"}, 403},
		{"team--1", []string{"X-User: 7"}, 403},
		{"shop-x", []string{"X-User: 7", "X-Shop: x"}, 101},
		{"shop-x", []string{"X-User: 7"}, 403},
		{"orders-7", nil, 403},
	} {
		// A listener of the former configuration may still have a connection.
		testkit.Eventually(t, c.group, func() error {
			if got := status(c.group, c.headers...); got != c.want {
				return fmt.Errorf("with %q: %d, want %d", c.headers, got, c.want)
			}
			return nil
		})
	}
	open := s.dialRoute("/ws/orders-7/", http.Header{"X-User": {"7"}})
	s.mustLoad("auth caddy {\nallow *\n}", user)
	open.closed(1012)
	if got := status("anything", "X-User: 7"); got != 101 {
		t.Errorf("allow *: %d", got)
	}
}

// Messages that choose groups ask the authorizer about new groups only. Without its answer, the client is told to try
// later.
func TestAuthorizationOfChosenGroups(t *testing.T) {
	var down atomic.Bool
	var mu sync.Mutex
	asked := map[string]int{}
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		group := r.FormValue("group")
		mu.Lock()
		asked[group]++
		mu.Unlock()
		switch {
		case down.Load():
			w.WriteHeader(http.StatusInternalServerError)
		case group == "" || group == "room_secret":
			_, _ = fmt.Fprint(w, `{"user": 7, "groups": []}`)
		default:
			_, _ = fmt.Fprintf(w, `{"user": 7, "groups": [%q]}`, group)
		}
	}))
	defer endpoint.Close()
	s := newSite(t)
	s.mustLoad("auth http "+endpoint.URL+" {\ncache 1ms\nrecheck off\n}", `edgerelay {
	route /ws/{shop}/ {
		groups shop_{shop} everybody
		on     said text text
		messages subscribe {
			join  room_{message.room} action="join"
			leave room_{message.room} action="leave"
		}
	}
}`)
	c := s.dialRoute("/ws/north/", http.Header{"Cookie": {"sessionid=ann"}})
	say := func(action, room string) { c.send(fmt.Sprintf(`{"action": %q, "room": %q}`, action, room)) }
	hears := func(group, text string) {
		t.Helper()
		testkit.Eventually(t, "the subscription to "+group, func() bool { return slices.Contains(node.Current().Hub.Interested(), group) })
		s.emit(group, "said", fmt.Sprintf(`{"text": %q}`, text))
		c.next(text)
	}
	say("join", "a")
	hears("room_a", "first")
	say("join", "secret")
	say("join", "b")
	say("join", "a")
	hears("room_b", "second")
	hears("shop_north", "third")
	hears("everybody", "fourth")
	say("leave", "b")
	say("leave", "north") // no group of messages
	say("join", "c")
	hears("room_c", "fifth")
	s.emit("room_b", "said", `{"text": "not for this client"}`)
	s.emit("room_secret", "said", `{"text": "secret"}`)
	hears("room_a", "sixth")
	mu.Lock()
	for group, want := range map[string]int{
		"shop_north": 1, "room_a": 1, "room_b": 1, "room_c": 1, "room_secret": 1, "everybody": 0,
	} {
		if asked[group] != want {
			t.Errorf("the site was asked about %s %d times, want %d", group, asked[group], want)
		}
	}
	mu.Unlock()
	down.Store(true)
	say("join", "d")
	c.closed(1013)
}
