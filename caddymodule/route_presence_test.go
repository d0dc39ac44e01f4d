package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// A page sees who comes and goes; the site is told of rooms that are occupied and vacated.
func TestRouteWithPresence(t *testing.T) {
	var mu sync.Mutex
	var calls []string
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			Events []struct{ Type, Group string }
		}
		text, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(text, &body)
		mu.Lock()
		defer mu.Unlock()
		for _, e := range body.Events {
			calls = append(calls, e.Type+" "+e.Group)
		}
	}))
	defer hook.Close()
	s := newSite(t)
	s.mustLoad("auth caddy {\nallow chat_*\n}", fmt.Sprintf(`map {query.u} {http.auth.user.id} {
	~(.*) ${1}
}
edgerelay {
	route /ws/chat/{room}/ {
		groups chat_{room} user_{user}
		on presence.join json joined=user count
		on presence.leave json left=user count
		first presence
		presence {
			grace 100ms
			groups chat_*
			webhook %s {
				key secret
			}
		}
	}
}`, hook.URL))
	ann := s.dialRoute("/ws/chat/lobby/?u=ann", nil)
	first, err := ann.socket.Next(patience)
	// The client's own entry may be under way.
	if err != nil || first != `{"presence": {"chat_lobby": {"users": [], "count": 0}}}` &&
		first != `{"presence": {"chat_lobby": {"users": [{"user": "ann", "info": {}}], "count": 1}}}` {
		t.Errorf("first frame: %s, %v", first, err)
	}
	ann.next(`{"joined": "ann", "count": 1}`)
	bob := s.dialRoute("/ws/chat/lobby/?u=bob", nil)
	ann.next(`{"joined": "bob", "count": 2}`)
	second := s.dialRoute("/ws/chat/lobby/?u=bob", nil)
	list := func() (g admin.GroupPresence) {
		t.Helper()
		code, body := s.get("http://" + s.admin + "/edgerelay/presence?group=chat_lobby")
		if code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
		if err := json.Unmarshal([]byte(body), &g); err != nil {
			t.Fatal(err)
		}
		return g
	}
	if g := list(); g.Count != 2 || len(g.Users) != 2 || string(g.Users[1].User) != `"bob"` {
		t.Errorf("list: %+v", g)
	}
	_ = second.socket.Close(1000)
	_ = bob.socket.Close(1000)
	ann.next(`{"left": "bob", "count": 1}`)
	_ = ann.socket.Close(1000)
	testkit.Eventually(t, "the site is told", func() error {
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(calls, ", "); got != "occupied chat_lobby, vacated chat_lobby" {
			return fmt.Errorf("calls: %s", got)
		}
		return nil
	})
	if g := list(); g.Count != 0 {
		t.Errorf("list: %+v", g)
	}
	if code, _ := s.get("http://" + s.admin + "/edgerelay/presence?group=%20"); code != http.StatusBadRequest {
		t.Errorf("invalid group: %d", code)
	}
}

func TestInvalidPresence(t *testing.T) {
	s := newSite(t)
	for name, c := range map[string]struct{ lines, want string }{
		"grace":       {"grace 25h", "grace is between 0s and 24h"},
		"bound":       {"announce_up_to 20000", "announce_up_to is a number up to 10000"},
		"info":        {"info name", "write {user.name}"},
		"info bare":   {"info name}", "write {user.name}"},
		"pattern":     {"groups chat_[", "no group has a name such as"},
		"placeholder": {"groups {env.GROUPS}", "no group has a name such as"},
		"url":         {"webhook ftp://x", "write https://example.com/presence/"},
		"uwsgi":       {"webhook uwsgi://127.0.0.1:8050", "needs a path"},
		"no url":      {"webhook", "webhook needs a URL"},
		"setting":     {"announce 5", "has no setting"},
		"too long":    {"webhook http://a /b", "write https://example.com/presence/"},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.load(s.file("auth none", "edgerelay {\nroute /a/ {\ngroups a\npresence {\n"+c.lines+"\n}\n}\n}"))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
