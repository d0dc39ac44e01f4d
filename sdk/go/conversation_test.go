package edgerelay

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// game is a function: a room with a counter of visits, a chat, and a reminder.
var game = Hooks{
	OnInit: func() error { return AutoResponse("ping", "pong") },
	OnConnect: func(c *Connect) Admission {
		if c.User("username") == "" {
			return RejectBecause("anonymous")
		}
		if c.Query("v") == "a b" {
			return RejectWith(426)
		}
		room := "game-" + c.Param("room")
		check(c.SetAttachment(Object("room", room, "name", c.User("username"))))
		check(Shared.Add("visits:"+room, 1, 0, Then("visited", room)))
		return AdmitIf(c.Join(room))
	},
	OnMessage: func(c *Client, m *Message) error {
		room := c.AttachmentText("room")
		switch m.String() {
		case "quit":
			return c.Close(3000, "bye")
		case "fail":
			check(c.Send("void"))
			return errors.New("no")
		case "echo":
			m.Reply([]byte("echo"))
			return c.Send("first")
		case "remind":
			return Alarms.After("remind", room, 5000)
		case "ask":
			return Fetch(HTTPRequest{URL: "https://example.org/", Body: "?"}, Then("answered", ""))
		case "lost":
			return Shared.Get("x", Then("nowhere", ""))
		}
		return c.PublishOthers(room, Object("from", c.AttachmentText("name"), "text", m.String()))
	},
	OnClose: func(c *Client, e *Closing) error {
		return Publish(c.AttachmentText("room"), c.AttachmentText("name")+" left")
	},
	OnResult: Results{
		"visited": func(c *Client, r *Response) error { return c.Send(r.Context + " " + r.String()) },
		"answered": func(c *Client, r *Response) error {
			if err := r.Err(); err != nil {
				return c.Send(err.Error())
			}
			return c.Send(r.String())
		},
	},
	OnAlarm: func(a *Alarm) error {
		if a.Is("", "broken") {
			return errors.New("broken")
		}
		return Publish(a.String(), a.Name)
	},
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func visitor(name string) Handshake {
	return Handshake{Param: map[string]string{"room": "7"}, User: []byte(Object("username", name))}
}

func wantFrames(t *testing.T, c *TestClient, want ...string) {
	t.Helper()
	if got := c.Received(); !slices.Equal(got, want) {
		t.Errorf("%s got %q, want %q", c.ID, got, want)
	}
}

func TestConversation(t *testing.T) {
	h := &Host{Hooks: &game}
	alice, bob := h.Connect(visitor("alice")), h.Connect(visitor("bob"))
	if !alice.Accepted || alice.Err != nil {
		t.Fatalf("alice: %+v", alice)
	}
	wantFrames(t, alice, "game-7 1")
	wantFrames(t, bob, "game-7 2")

	check(alice.Text("hi"))
	wantFrames(t, alice)
	wantFrames(t, bob, `{"from":"alice","text":"hi"}`)

	check(bob.Text("ping"))
	check(bob.Text("echo"))
	wantFrames(t, bob, "pong", "first", "echo")

	if err := bob.Text("fail"); err == nil || bob.Err == nil {
		t.Error("no failure")
	}
	wantFrames(t, bob)

	check(bob.Text("quit"))
	if bob.Closed == nil || bob.Closed.Code != 3000 || len(bob.Groups) > 0 {
		t.Errorf("bob: %+v", bob)
	}
	wantFrames(t, alice, "bob left")
	if err := bob.Text("late"); err == nil {
		t.Error("a closed connection takes messages")
	}
}

func TestRejections(t *testing.T) {
	h := &Host{Hooks: &game}
	if c := h.Connect(Handshake{}); c.Accepted || c.Status != 403 || c.Reason != "anonymous" || c.Err != nil {
		t.Errorf("%+v", c)
	}
	shake := visitor("alice")
	shake.Query = "x=1&v=a%20b"
	if c := h.Connect(shake); c.Accepted || c.Status != 426 {
		t.Errorf("%+v", c)
	}
	if v, ok := h.SharedValue("visits:game-7"); ok {
		t.Errorf("a rejected connection counted: %s", v)
	}
}

func TestAlarmsComeUntilTheySucceed(t *testing.T) {
	h := &Host{Hooks: &game}
	h.SetTime(time.UnixMilli(1e12))
	alice := h.Connect(visitor("alice"))
	alice.Received()
	check(alice.Text("remind"))
	h.Advance(4 * time.Second)
	wantFrames(t, alice)
	h.Advance(time.Second)
	wantFrames(t, alice, "remind")

	h.Alarms = append(h.Alarms, PendingAlarm{Name: "x", Payload: "broken", At: h.now()})
	h.Advance(0)
	if len(h.Alarms) != 1 || h.Alarms[0].Failures != 1 || h.Err == nil {
		t.Errorf("%+v, %v", h.Alarms, h.Err)
	}
}

func TestFetch(t *testing.T) {
	h := &Host{Hooks: &game}
	alice := h.Connect(visitor("alice"))
	alice.Received()
	check(alice.Text("ask"))
	wantFrames(t, alice, "unavailable")
	h.Fetch = func(r HTTPRequest) (int32, string) { return 200, r.Method + " " + r.URL + " " + r.Body }
	h.HoldResponses = true
	check(alice.Text("ask"))
	wantFrames(t, alice)
	h.Respond()
	wantFrames(t, alice, "POST https://example.org/ ?")
}

// TestClientsMayLeave: the response to a client that has left is no failure, and its continuation knows the attachment.
func TestClientsMayLeave(t *testing.T) {
	h := &Host{Hooks: &game, HoldResponses: true}
	alice := h.Connect(visitor("alice"))
	check(alice.Disconnect(1001, ""))
	h.Respond()
	if alice.Err != nil || len(alice.Frames) > 0 {
		t.Errorf("%+v", alice)
	}
}

func TestReplaysHaveNoEffects(t *testing.T) {
	h := &Host{Source: "history"}
	r := h.Event(func(e *Event) Verdict {
		if Publish("g", "x") != ErrNoClient || Fetch(HTTPRequest{URL: "https://example.org/"}) != ErrNoClient {
			return Fail("a replay publishes")
		}
		return Pass
	}, "g", "{}")
	if r.Err != nil || len(h.Published) > 0 {
		t.Error(r.Err, h.Published)
	}
}

func TestUnknownContinuationFails(t *testing.T) {
	h := &Host{Hooks: &game}
	alice := h.Connect(visitor("alice"))
	check(alice.Text("lost"))
	if alice.Err == nil || !strings.Contains(alice.Err.Error(), `"nowhere"`) {
		t.Error(alice.Err)
	}
}

func TestGroupsAreGranted(t *testing.T) {
	h := &Host{Hooks: &game, Joins: []string{"chat-*"}}
	c := h.Connect(visitor("alice"))
	if c.Accepted || c.Status != 403 || !strings.Contains(c.Err.Error(), "patterns") {
		t.Errorf("%+v", c)
	}
}

func TestSharedStore(t *testing.T) {
	var got []string
	hooks := Hooks{
		OnTick: func() error {
			note := func(name string) Continuation { return Then("note", name) }
			check(Shared.Get("k", note("none")))
			check(Shared.Swap("k", "", "1", 1000, note("swapped")))
			check(Shared.Swap("k", "2", "3", 0, note("conflict")))
			check(Shared.Add("k", 4, 0, note("sum")))
			check(Shared.Push("l", "a", 2, 0))
			check(Shared.Push("l", "b", 2, 0))
			check(Shared.Push("l", `c"`, 2, 0))
			check(Shared.List("l", 9, note("list")))
			check(Shared.Get("l", note("a list")))
			return Shared.Set("text", "x", 0)
		},
		OnResult: Results{"note": func(c *Client, r *Response) error {
			if c.Present() {
				return errors.New("a client")
			}
			got = append(got, r.Context+" "+Quote(r.String())+" "+strings.Join(r.List(), ",")+" "+ResponseError(r.Status).Error())
			return nil
		}},
	}
	h := &Host{Hooks: &hooks}
	h.SetTime(time.UnixMilli(1e12))
	if r := h.Tick(hooks.OnTick); r.Err != nil || h.Err != nil {
		t.Fatal(r.Err, h.Err)
	}
	want := []string{
		`none ""  HTTP status 1`, `swapped ""  HTTP status 0`, `conflict "1"  HTTP status 2`, `sum "5"  HTTP status 0`,
		`list "[\"b\",\"c\\\"\"]" b,c" HTTP status 0`, `a list ""  invalid`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	h.Advance(time.Second)
	if v, ok := h.SharedValue("k"); ok {
		t.Errorf("%s outlives its TTL", v)
	}
}
