package webhttp_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// text returns a TEXT event.
func text(content string) string { return fmt.Sprintf("TEXT %x\r\n%s\r\n", len(content), content) }

// control returns a control message.
func control(members string) string { return text(`c:{` + members + `}`) }

const subscribeRoom = `"type": "subscribe", "channel": "room"`

// script is a backend that answers each message of the client with the events that the message is.
func script(w http.ResponseWriter, r *request) {
	if rest, ok := strings.CutPrefix(r.body, "OPEN\r\n"); ok {
		w.Header().Set("Sec-WebSocket-Extensions", "grip")
		_, _ = io.WriteString(w, "OPEN\r\n"+rest)
		return
	}
	if _, content, ok := strings.Cut(r.body, "\r\n"); ok && strings.HasPrefix(r.body, "TEXT") {
		_, _ = io.WriteString(w, strings.TrimSuffix(content, "\r\n"))
	}
}

// A client gets items from the answer with subscribe on, in order with the answer's messages, until unsubscribe. The
// control messages themselves, and messages without the prefix, do not reach it.
func TestSubscriptions(t *testing.T) {
	s := startSite(t, script)
	e := startEdge(t, s.URL, nil)
	a, b := e.dial(t, "/a"), e.dial(t, "/b")
	item := func(n int) string {
		return fmt.Sprintf(`{"channel": "room", "ws-message": {"content": "item %d"}, "http-stream": {"content": "x"}}`, n)
	}
	e.publish(t, item(0))
	for _, c := range []*wstest.Client{a, b} {
		send(t, c, text("m:before")+text("dropped")+control(subscribeRoom)+text("m:after"))
		expect(t, c, "before", "after")
	}
	e.publish(t, item(1))
	expect(t, a, "item 1")
	send(t, a, control(`"type": "unsubscribe", "channel": "room"`)+control(`"type": "nonsense"`)+text("c:{")+text("m:gone"))
	expect(t, a, "gone")
	e.publish(t, item(2))
	e.publish(t, `{"channel": "room", "formats": {"ws-message": {"content-bin": "AAEC", "type": "text"}}}`)
	expect(t, b, "item 1", "item 2", "\x00\x01\x02")
	send(t, a, text("m:end"))
	expect(t, a, "end")
}

// A close of a channel comes behind the items before, with code and reason; a refresh makes the relay ask the backend.
func TestActions(t *testing.T) {
	s := startSite(t, script)
	e := startEdge(t, s.URL, nil)
	c := e.dial(t, "/")
	send(t, c, control(subscribeRoom)+text("m:ready"))
	expect(t, c, "ready")
	e.publish(t, `{"channel": "room", "ws-message": {"action": "refresh"}}`)
	testkit.Eventually(t, "an empty request", func() bool { b := s.bodies(); return b[len(b)-1] == "" })
	e.publish(t, `{"channel": "room", "ws-message": {"action": "hint"}}`)
	e.publish(t, `{"channel": "room", "ws-message": {"content": "last"}}`)
	e.publish(t, `{"channel": "room", "ws-message": {"action": "close", "code": 4321, "reason": "over"}}`)
	expect(t, c, "last")
	expectClose(t, c, 4321)
	testkit.Eventually(t, "the backend sees the close", func() bool {
		return strings.HasPrefix(s.bodies()[len(s.bodies())-1], "CLOSE 2\r\n\x10\xe1") || strings.HasPrefix(s.bodies()[len(s.bodies())-1], "CLOSE 6\r\n\x10\xe1over")
	})
}

// After detach, the backend gets CLOSE and no request any more, not even about the end. The events behind detach, and
// the subscriptions, have effect.
func TestDetach(t *testing.T) {
	s := startSite(t, script)
	e := startEdge(t, s.URL, nil)
	c := e.dial(t, "/")
	send(t, c, control(subscribeRoom)+text("m:ready")+control(`"type": "detach"`)+text("m:behind")+control(`"type": "subscribe", "channel": "late"`))
	expect(t, c, "ready", "behind")
	testkit.Eventually(t, "the backend is told", func() bool { return slices.Contains(s.bodies(), "CLOSE\r\n") })
	send(t, c, text("m:dropped"))
	e.publish(t, `{"channel": "room", "ws-message": {"content": "still here"}}`)
	e.publish(t, `{"channel": "late", "ws-message": {"content": "here as well"}}`)
	expect(t, c, "still here", "here as well")
	if err := c.Close(1000); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "the session ends", func() bool { return e.Stats.Connections.Load() == 0 })
	if n := len(s.bodies()); n != 3 {
		t.Errorf("requests %q, want OPEN, the first message and CLOSE", s.bodies())
	}
}

// Filters decide by connection; an unknown one withholds the item.
func TestFilters(t *testing.T) {
	s := startSite(t, script)
	e := startEdge(t, s.URL, nil)
	clients := map[string]*wstest.Client{}
	for _, c := range []struct{ name, filters, values string }{
		{"plain", ``, ``},
		{"ann", `"skip-self", "skip-users"`, `user=ann`},
		{"bob", `"skip-self", "skip-users"`, `user=bob`},
		{"nobody", `"skip-self", "skip-users"`, ``},
		{"needs", `"require-sub"`, ``},
		{"greeted", `"var-subst"`, `name=Eve`},
		{"unknown", `"build-id"`, ``},
	} {
		client := e.dial(t, "/"+c.name)
		events := ""
		if name, value, ok := strings.Cut(c.values, "="); ok {
			events += control(`"type": "set-meta", "name": "` + name + `", "value": "` + value + `"`)
		}
		if c.name == "needs" {
			events += control(`"type": "subscribe", "channel": "premium"`)
		}
		send(t, client, events+control(subscribeRoom+`, "filters": [`+c.filters+`]`)+text("m:ready"))
		expect(t, client, "ready")
		clients[c.name] = client
	}
	for _, item := range []string{
		`"ws-message": {"content": "1 all"}`,
		`"ws-message": {"content": "2 from ann"}, "meta": {"sender": "ann"}`,
		`"ws-message": {"content": "3 not for bob"}, "meta": {"skip_users": "eve, bob"}`,
		`"ws-message": {"content": "4 premium"}, "meta": {"require_sub": "premium"}`,
		`"ws-message": {"content": "5 other"}, "meta": {"require_sub": "other"}`,
		`"ws-message": {"content": "6 hello %(name)s 100%%"}`,
		`"ws-message": {"content": "7 only substituted %(name)s", "content-filters": ["var-subst"]}`,
		`"ws-message": {"content": "8 %(unknown)s"}`,
		`"ws-message": {"content": "9 end"}`,
	} {
		e.publish(t, `{"channel": "room", `+item+`}`)
	}
	all := []string{
		"1 all", "2 from ann", "3 not for bob", "4 premium", "5 other", "6 hello %(name)s 100%%", "8 %(unknown)s", "9 end",
	}
	without := func(number string) (list []string) {
		for _, text := range all {
			if !strings.HasPrefix(text, number) {
				list = append(list, text)
			}
		}
		return list
	}
	for name, want := range map[string][]string{
		"plain": all, "ann": without("2"), "bob": without("3"), "nobody": all, "needs": without("5"),
		"greeted": {
			"1 all", "2 from ann", "3 not for bob", "4 premium", "5 other", "6 hello Eve 100%",
			"7 only substituted Eve", "9 end",
		},
		"unknown": nil,
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, clients[name], want...)
			send(t, clients[name], text("m:marker"))
			expect(t, clients[name], "marker")
		})
	}
}

// The state that a backend sets comes with each request, until an empty value removes it. The last value counts.
func TestMeta(t *testing.T) {
	s := startSite(t, opens("", func(w http.ResponseWriter, r *request) {
		switch {
		case strings.HasSuffix(r.body, "\r\nset\r\n"):
			w.Header()["Set-Meta-User"] = []string{"bob", "ann"}
			w.Header().Set("Set-Meta-Other", "x")
		case strings.HasSuffix(r.body, "unset\r\n"):
			w.Header().Set("Set-Meta-Other", "")
		}
		_, _ = io.WriteString(w, text(r.Header.Get("Meta-User")+"/"+r.Header.Get("Meta-Other")))
	}))
	e := startEdge(t, s.URL, nil)
	c := e.dial(t, "/")
	for _, step := range [][2]string{{"set", "/"}, {"look", "ann/x"}, {"unset", "ann/x"}, {"look", "ann/"}} {
		send(t, c, step[0])
		expect(t, c, step[1])
	}
}

// An idle connection asks the backend if that is wanted, and only then.
func TestKeepAlive(t *testing.T) {
	s := startSite(t, opens("", func(w http.ResponseWriter, r *request) {
		if strings.HasPrefix(r.body, "TEXT") {
			w.Header().Set("Keep-Alive-Interval", strings.TrimSpace(strings.SplitN(r.body, "\r\n", 2)[1]))
		}
		_, _ = io.WriteString(w, text("answer"))
	}))
	e := startEdge(t, s.URL, nil)
	e.Hurry(1000) // 20 ms are the least
	c := e.dial(t, "/")
	send(t, c, "0")
	expect(t, c, "answer")
	if frame, err := c.Next(100 * time.Millisecond); err == nil {
		t.Errorf("frame %q although no keep-alive is wanted", frame)
	}
	send(t, c, "1")
	expect(t, c, "answer", "answer", "answer")
	if all := s.bodies(); all[len(all)-1] != "" {
		t.Errorf("requests %q, want empty ones at the end", all)
	}
}

// Messages for idle clients, and delayed ones, come at their time.
func TestTimedMessages(t *testing.T) {
	s := startSite(t, script)
	e := startEdge(t, s.URL, nil)
	e.Hurry(50)
	c := e.dial(t, "/")
	send(t, c, control(`"type": "send-delayed", "content": "first", "timeout": 60`)+
		control(`"type": "send-delayed", "content": "second", "timeout": 60`)+text("m:now"))
	expect(t, c, "first", "now") // the second one makes the first one due
	send(t, c, control(`"type": "flush-delayed"`)+text("m:flushed"))
	expect(t, c, "second", "flushed")
	send(t, c, control(`"type": "send-delayed", "content-bin": "aGk=", "message-type": "text", "timeout": 0.01`))
	expect(t, c, "hi")
	send(t, c, control(`"type": "keep-alive", "content": "tick", "timeout": 0.02`))
	expect(t, c, "tick", "tick")
	send(t, c, control(`"type": "keep-alive"`)+text("m:quiet"))
	for {
		frame, err := c.Next(soon)
		if err != nil {
			t.Fatal(err)
		}
		if frame == "quiet" {
			break
		}
	}
	if frame, err := c.Next(100 * time.Millisecond); err == nil {
		t.Errorf("frame %q after the end of keep-alive", frame)
	}
}

// Requests are signed as GRIP's libraries verify it: HS256, issuer and a lifetime.
func TestSignature(t *testing.T) {
	s := startSite(t, echo)
	e := startEdge(t, s.URL, func(s *webhttp.Settings, _ *relay.Limits) {
		s.Key, s.Issuer, s.Audience = []byte("k3y"), "edge", "site"
	})
	e.dial(t, "/")
	token := s.last().Header.Get("Grip-Sig")
	keys := []webhttp.Key{{Name: "edge", Secret: []byte("k3y")}}
	if _, err := webhttp.AuthenticatePublisher("Bearer "+token, keys, time.Now()); err != nil {
		t.Errorf("signature %q: %v", token, err)
	}
	if _, err := webhttp.AuthenticatePublisher("Bearer "+token, keys, time.Now().Add(2*time.Hour)); err == nil {
		t.Error("the signature does not expire")
	}
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var claims map[string]any
	if json.Unmarshal(payload, &claims) != nil || claims["aud"] != "site" {
		t.Errorf("claims %s", payload)
	}
	if f := s.last().Header.Get("Grip-Feature"); !strings.Contains(f, "filter:skip-self") {
		t.Errorf("Grip-Feature %q", f)
	}
}

// More channels than a connection may have groups end the connection.
func TestTooManyChannels(t *testing.T) {
	s := startSite(t, script)
	e := startEdge(t, s.URL, func(_ *webhttp.Settings, l *relay.Limits) { l.GroupsPerConnection = 2 })
	c := e.dial(t, "/")
	events := ""
	for i := range 3 {
		events += control(fmt.Sprintf(`"type": "subscribe", "channel": "c%d"`, i))
	}
	send(t, c, events)
	expectClose(t, c, 1011)
}

// A channel that the settings map is also the Channels group of its name.
func TestMappedChannels(t *testing.T) {
	s := startSite(t, script)
	e := startEdge(t, s.URL, func(s *webhttp.Settings, _ *relay.Limits) {
		s.MapChannel = func(channel string) bool { return strings.HasPrefix(channel, "orders-") }
	})
	c := e.dial(t, "/")
	send(t, c, control(`"type": "subscribe", "channel": "orders-7"`)+control(subscribeRoom)+text("m:ready"))
	expect(t, c, "ready")
	names := e.hub.Interested()
	slices.Sort(names)
	if want := []string{"grip.orders-7", "grip.room", "orders-7"}; !slices.Equal(names, want) {
		t.Errorf("groups %q, want %q", names, want)
	}
}
