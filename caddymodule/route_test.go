package caddymodule

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// The tutorial's chat: a room per path, and each message goes to all clients of the room, the sender among them.
const chat = `edgerelay {
	route /ws/chat/{room}/ {
		groups chat_{room}
		on chat.message json message
		messages publish chat.message json message
	}
}
respond "next"`

func TestRouteServesChat(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", chat)
	a, b := s.dialRoute("/ws/chat/lobby/", nil), s.dialRoute("/ws/chat/lobby", nil)
	other := s.dialRoute("/ws/chat/attic/", nil)
	a.send(`{"message":"h\u00e9llo é"}`)
	a.next(`{"message": "h\u00e9llo \u00e9"}`)
	b.next(`{"message": "h\u00e9llo \u00e9"}`)
	other.send(`{"message": 1.0, "type": "x"}`)
	other.next(`{"message": 1.0}`)
	b.send(`{}`)
	b.closed(1007)
	if resp, body := s.ask("/ws/chat/"); resp.StatusCode != 200 || body != "next" {
		t.Errorf("another path: %d %q", resp.StatusCode, body)
	}
	if resp, _ := s.ask("/ws/chat/a%20b/"); resp.StatusCode != 404 {
		t.Errorf("no group name: %d", resp.StatusCode)
	}
	if resp, _ := s.ask("/ws/chat/a%2fb/"); resp.StatusCode != 200 {
		t.Errorf("a slash in a parameter: %d", resp.StatusCode)
	}
	if resp, body := s.ask("/websocket/"); resp.StatusCode != 200 || body != "next" {
		t.Errorf("AWX's path beside routes: %d %q", resp.StatusCode, body)
	}
}

// The sender is left out, members are set by the operator, text and binary messages each have their member.
func TestRoutePublishes(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", `edgerelay {
	route /ws/{room}/ {
		groups room.{room} all
		on msg json user room text k
		on bytes binary data
		messages publish msg {
			text text
			to room.{room} all
			set user {user}
			set room "{room}"
			set k {"a":1}
			others
		}
	}
	route /bin/{room}/ {
		groups room.{room}
		on bytes binary data
		messages publish bytes binary data
	}
}`)
	a, b := s.dialRoute("/ws/x/", nil), s.dialRoute("/ws/y/", nil)
	a.send("hi \"é\"")
	const want = `{"user": 1, "room": "x", "text": "hi \"\u00e9\"", "k": {"a": 1}}`
	b.next(want)
	b.send("2")
	a.next(strings.NewReplacer(`"x"`, `"y"`, `"hi \"\u00e9\""`, `"2"`).Replace(want))
	bin, watch := s.dialBinary("/bin/z/"), s.dialBinary("/ws/z/")
	if err := bin.Write(t.Context(), websocket.MessageBinary, []byte{0, 255}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*websocket.Conn{bin, watch} {
		if kind, data, err := c.Read(t.Context()); err != nil || kind != websocket.MessageBinary || string(data) != "\x00\xff" {
			t.Errorf("%v %q, %v", kind, data, err)
		}
	}
	if err := bin.Write(t.Context(), websocket.MessageText, []byte("text")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := bin.Read(t.Context()); websocket.CloseStatus(err) != 1003 {
		t.Errorf("a text: %v", err)
	}
}

// Groups of the user are granted; a user who is not logged in gets no WebSocket, or one that says why.
func TestRouteOfUser(t *testing.T) {
	s := newSite(t)
	const route = "route /ws/ {\nbasic_auth /private/* {\nalice " + hash + "\n}\nedgerelay {\nroute /private/ws/ {\n" +
		"groups user-{user}\non note text body\n}\nroute /open/ws/ {\ngroups user-{user}\nunauthenticated 4401\n" +
		"subprotocols v2 v1\n}\n}\n}"
	s.mustLoad("auth caddy", strings.Replace(route, "route /ws/", "route", 1))
	c := s.dialRoute("/private/ws/", http.Header{"Authorization": {"Basic YWxpY2U6cHc="}})
	s.emit("user-alice", "note", `{"body": "hello"}`)
	c.next("hello")
	out := s.dial("/open/ws/", http.Header{"Sec-Websocket-Protocol": {"v3", "v1"}})
	if out.Subprotocol() != "v1" {
		t.Errorf("subprotocol %q", out.Subprotocol())
	}
	if _, err := out.Next(patience); wstest.CloseCode(err) != 4401 {
		t.Errorf("not logged in: %v", err)
	}
	s.mustLoad("auth caddy", "edgerelay {\nroute /open/ws/ {\ngroups user-{user}\n}\n}")
	if resp, body := s.ask("/open/ws/"); resp.StatusCode != 403 {
		t.Errorf("not logged in: %d %q", resp.StatusCode, body)
	}
}

// Events that arrive while the first frame is fetched follow the frame.
func TestRouteFetchesFirstFrame(t *testing.T) {
	asked, answer := make(chan *http.Request, 1), make(chan int)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		if status := <-answer; status != 200 {
			w.WriteHeader(status)
			return
		}
		fmt.Fprint(w, `{"unread": 3}`)
	}))
	defer backend.Close()
	s := newSite(t)
	s.mustLoad("auth none", `edgerelay {
	route /ws/{room}/ {
		groups room.{room}
		on note text body
		first text `+"`{\"hello\": \"{room}\"}`"+`
		first fetch `+backend.URL+`/unread/{room}/?q={http.request.uri.query.q}
	}
}`)
	c := s.dialRoute("/ws/lobby/?q=1%262", http.Header{"Cookie": {"sessionid=s"}, "X-Other": {"x"}})
	r := <-asked
	if r.URL.RequestURI() != "/unread/lobby/?q=1%262" || r.Header.Get("Cookie") != "sessionid=s" ||
		r.Header.Get("X-Forwarded-For") != "127.0.0.1" || r.Host != s.addr || r.Header.Get("X-Other") != "" {
		t.Errorf("%s %s %v", r.Host, r.URL, r.Header)
	}
	s.emit("room.lobby", "note", `{"body": "meanwhile"}`)
	answer <- 200
	c.next(`{"hello": "lobby"}`)
	c.next(`{"unread": 3}`)
	c.next("meanwhile")
	s.emit("room.lobby", "note", `{"body": "later"}`)
	c.next("later")
	for status, code := range map[int]int{403: 4403, 500: 1011, 302: 1011} {
		c := s.dialRoute("/ws/lobby/?q=1", nil)
		<-asked
		answer <- status
		c.next(`{"hello": "lobby"}`)
		c.closed(code)
	}
	if resp, _ := s.ask("/ws/lobby/"); resp.StatusCode != 404 {
		t.Errorf("without a value for the URL: %d", resp.StatusCode)
	}
}

// A client begins with the last events of its groups, by the rules of the route.
func TestRouteBeginsWithHistory(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none\nhistory room.*", `edgerelay {
	route /ws/{room}/ {
		groups room.{room}
		on note text body
		on other ignore
		first history 2
	}
}`)
	first := s.dialRoute("/ws/a/", nil)
	for i := range 3 {
		s.emit("room.a", "note", fmt.Sprintf(`{"body": "%d"}`, i))
		first.next(fmt.Sprint(i))
	}
	second := s.dialRoute("/ws/a/", nil)
	second.next("1")
	second.next("2")
	s.emit("room.a", "note", `{"body": "3"}`)
	second.next("3")
	first.next("3")
}

// A reload applies new rules to clients that are connected, and closes those of a route that is gone.
func TestReloadOfRoutes(t *testing.T) {
	s := newSite(t)
	const routes = "edgerelay {\nroute /ws/ {\ngroups news\non a text %s\n}\nroute /old/ {\ngroups %s\non a text x\n}\n}"
	s.mustLoad("auth none", fmt.Sprintf(routes, "x", "news"))
	stays, goes := s.dialRoute("/ws/", nil), s.dialRoute("/old/", nil)
	s.emit("news", "a", `{"x": "1", "y": "2"}`)
	stays.next("1")
	goes.next("1")
	s.mustLoad("auth none", fmt.Sprintf(routes, "y", "other"))
	goes.closed(1012)
	s.emit("news", "a", `{"x": "1", "y": "2"}`)
	stays.next("2")
	s.mustLoad("auth none", "edgerelay")
	stays.closed(1012)
}

func TestRouteLimits(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", `edgerelay {
	route /ws/ {
		groups news
		messages refuse
		limits {
			connections 2
			message_size 10
		}
	}
}`)
	first, second := s.dialRoute("/ws/", nil), s.dialRoute("/ws/", nil)
	if resp, _ := s.ask("/ws/"); resp.StatusCode != 503 {
		t.Errorf("the third: %d", resp.StatusCode)
	}
	first.send("12345678901")
	first.closed(1009)
	second.send("x")
	second.closed(1008)
	testkit.Eventually(t, "there is room again", func() error {
		if resp, _ := s.ask("/ws/"); resp.StatusCode != 101 {
			return fmt.Errorf("%d", resp.StatusCode)
		}
		return nil
	})
}

func TestRoutesAreChecked(t *testing.T) {
	for settings, want := range map[string]string{
		"":                                                 "groups are missing",
		"groups {room}":                                    "no parameter of the path",
		"groups a{user}{user.x}":                           "write one",
		"groups a b c!":                                    "not a group name",
		"groups a\non x":                                   "add a form",
		"groups a\non x yaml y":                            "invalid form",
		"groups a\non x text":                              "name one member",
		"groups a\non x text a\non x text b":               "two rules",
		"groups a\non x plugin p":                          "there is no plugin",
		"groups a\non x json a {\nset b c\n}":              "invalid JSON",
		"groups a\non x text a {\nset b 1\n}":              "set needs the form json",
		"groups a\nmessages publish":                       "needs a type",
		"groups a\nmessages explode":                       "invalid action",
		"groups a\nmessages publish x type":                "reserved",
		"groups a\nunauthenticated 5000":                   "use reject",
		"groups a\nfirst nothing":                          "first takes",
		"groups a\nfirst history 0":                        "invalid number",
		"groups a\nfirst fetch ftp://x/":                   "invalid URL",
		"groups a\nfirst fetch http://{user}/":             "placeholder in the host",
		"groups a\nlimits {\nconnections -1\n}":            "invalid number",
		"groups a\nfirst text a\nfirst text b":             "given twice",
		"groups a\nsubprotocols \"a b\"":                   "invalid name",
		"messages backend http://x\nfirst fetch http://x/": "let the site answer OPEN",
		"groups a\non x plugin":                            "name the plugin",
		"groups a\n}\nroute /WS {\ngroups b":               "two routes have this path",
		"groups a\nwhat":                                   "has no setting",
	} {
		_, err := adapt("{\nedgerelay {\nauth none\n}\n}\n:80 {\nedgerelay {\nroute /ws/ {\n" + settings + "\n}\n}\n}")
		if err == nil {
			err = validate("{\nadmin off\nedgerelay {\nauth none\n}\n}\n:80 {\nedgerelay {\nroute /ws/ {\n" + settings + "\n}\n}\n}")
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", settings, err, want)
		}
	}
}
