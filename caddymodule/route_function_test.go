package caddymodule

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// functionOptions configure the function fixture, which does what a message says.
func functionOptions(t testing.TB, more string) string {
	return fmt.Sprintf("auth none\nplugin f %s {\ngrant shared alarms\nfetch https://hooks.example.com\njoin room_*\npublish room_* closed results\n%s\n}",
		pluginFile(t, "function"), more)
}

const functionRoute = `edgerelay {
	route /ws/{room}/ {
		function f {
			headers X-Token
		}
		on chat.message json text
	}
	route /watch/ {
		groups closed
	}
}
respond "next"`

func TestRouteServesFunction(t *testing.T) {
	s := newSite(t)
	s.mustLoad(functionOptions(t, ""), functionRoute)
	a := s.dialRoute("/ws/room_1/", nil)
	a.next("welcome")
	b := s.dialRoute("/ws/room_1/", nil)
	b.next("welcome")
	other := s.dialRoute("/ws/room_2/", nil)
	other.next("welcome")
	a.send("ping")
	a.next("pong")
	a.send(`{"do":"publish","group":"room_1","type":"chat.message","text":"{\"text\":\"hi\"}"}`)
	b.next(`{"text": "hi"}`)
	a.send(`{"do":"publish","group":"room_1","text":"as it is","flags":1}`)
	b.next("as it is")
	b.send(`{"do":"join","group":"room_2"}`)
	b.next("0") // the result of join
	other.send(`{"do":"publish","group":"room_2","text":"both"}`)
	b.next("both")
	b.send(`{"do":"leave","group":"room_2"}`)
	b.next("0")
	b.send(`{"do":"echo","text":"left"}`)
	b.next("left")
	other.send(`{"do":"publish","group":"room_2","text":"one"}`)
	b.send(`{"do":"recall"}`)
	b.next("room_1")
}

func TestFunctionRefusesHandshake(t *testing.T) {
	s := newSite(t)
	s.mustLoad(functionOptions(t, ""), functionRoute)
	for query, status := range map[string]int{"deny": 403, "teapot": 418, "reason": 403, "fail": 503, "trap": 503} {
		_, resp, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/ws/room_1/?"+query, nil)
		if err == nil || resp.StatusCode != status {
			t.Errorf("%s: %v, want %d", query, err, status)
		}
	}
}

// A failing message ends its client's connection alone; with on_error pass it is forgotten. The function learns of the
// end. The attachment survives a reload.
func TestFunctionAcrossReloads(t *testing.T) {
	s := newSite(t)
	s.mustLoad(functionOptions(t, ""), functionRoute)
	watcher := s.dialRoute("/watch/", nil)
	bad, good := s.dialRoute("/ws/room_1/", nil), s.dialRoute("/ws/room_1/", nil)
	bad.next("welcome")
	good.next("welcome")
	good.send(`{"do":"remember","text":"mine"}`)
	good.next("0")
	bad.send(`{"do":"trap"}`)
	bad.closed(1011)
	watcher.next("function failed")
	s.mustLoad(functionOptions(t, "on_error pass\nmemory 8MiB"), functionRoute)
	good.send(`{"do":"recall"}`)
	good.next("mine")
	good.send(`{"do":"trap"}`)
	good.send(`{"do":"recall"}`)
	good.next("mine")
	s.mustLoad("auth none", "edgerelay {\nroute /ws/{room}/ {\ngroups {room}\n}\n}")
	good.closed(1012)
}

func TestFunctionSettings(t *testing.T) {
	s := newSite(t)
	for name, c := range map[string]struct{ options, route, want string }{
		"no plugin":  {"auth none", "function f", `there is no plugin "f"`},
		"messages":   {functionOptions(t, ""), "function f\nmessages refuse", "remove the setting messages"},
		"first":      {functionOptions(t, ""), "function f\nfirst history 3", "let on_connect send the frame"},
		"header":     {functionOptions(t, ""), "function f {\nheaders a/b\n}", `invalid name "a/b"`},
		"no name":    {functionOptions(t, ""), "function", "function takes the name of a plugin"},
		"two":        {functionOptions(t, ""), "function f\nfunction f", "function"},
		"bad groups": {functionOptions(t, ""), "groups a/b\nfunction f", "groups"},
	} {
		err := s.load(s.file(c.options, "edgerelay {\nroute /ws/{room}/ {\n"+c.route+"\n}\n}"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A client cannot make its function fail by a long request, and a function's change of groups that is not possible ends
// the client's connection with the reason.
func TestFunctionBounds(t *testing.T) {
	s := newSite(t)
	s.mustLoad(functionOptions(t, "")+"\nlimits {\ngroups_per_connection 2\n}", functionRoute)
	header := http.Header{"X-Token": {strings.Repeat("x", 70_000)}}
	_, resp, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/ws/room_1/", &websocket.DialOptions{HTTPHeader: header})
	if err == nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a long header: %v", err)
	}
	c := s.dialRoute("/ws/room_1/", nil)
	c.next("welcome")
	c.send(`{"do":"join","group":"room_2"}`)
	c.next("0")
	c.send(`{"do":"join","group":"room_3"}`)
	c.closed(1008)
}
