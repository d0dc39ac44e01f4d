package channels_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

// session is the session of one client; what a test does not set is absent.
type session struct {
	relay.Session
	socket socket
	limits relay.Limits
}

func (s *session) Socket() relay.Socket     { return &s.socket }
func (s *session) Limits() *relay.Limits    { return &s.limits }
func (s *session) Identity() relay.Identity { return relay.Identity{Key: "7"} }
func (s *session) Address() netip.Addr      { return netip.Addr{} }
func (s *session) Sender() string           { return "sender" }
func (s *session) Close()                   {}

// socket records the close code and the frames.
type socket struct {
	relay.Socket
	code   int
	frames string
}

func (s *socket) Close(code int, _ string) { s.code = code }

func (s *socket) Send(frames []byte, _ int) bool {
	s.frames += string(frames)
	return true
}

// play sends one message to a route and returns the published messages and the close code.
func play(t testing.TB, m channels.Messages, text bool, message string) (published []relay.Message, code int) {
	t.Helper()
	if err := m.Prepare(); err != nil {
		t.Fatal(err)
	}
	settings, err := channels.NewSettings(nil)
	if err != nil {
		t.Fatal(err)
	}
	settings.Messages = m
	node := &channels.Node{
		Log: slog.New(slog.DiscardHandler), FrameSize: func() int { return 1 << 16 },
		Publish: func(_ context.Context, m relay.Message) (relay.Receipt, error) {
			published = append(published, m)
			return relay.Receipt{}, nil
		},
	}
	r := channels.NewRoute("/ws/", node, &channels.Stats{})
	r.Apply(settings)
	targets, err := settings.Messages.Resolve([]string{"g"}, func(channels.Template) (json.RawMessage, error) {
		return json.RawMessage("7"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	release, err := r.Reserve("7")
	if err != nil {
		t.Fatal(err)
	}
	s := &session{}
	c := r.Open(s, targets, release)
	c.Message(text, []byte(message))
	c.Ended()
	return published, s.socket.code
}

func TestMessagesArePublished(t *testing.T) {
	publish := channels.Messages{Action: channels.PublishMessages, Type: "chat.message"}
	asJSON := func(names ...string) channels.Messages {
		m := publish
		m.JSON, m.Members = true, member(names...)
		return m
	}
	asText := publish
	asText.Text, asText.Binary = "message", "data"
	user, err := channels.ParseTemplate("{user}")
	if err != nil {
		t.Fatal(err)
	}
	set := asJSON()
	set.Set = []channels.SetMember{{Name: "user", Value: user}, {Name: "k", Constant: json.RawMessage(`{"a":1}`)}}
	for name, c := range map[string]struct {
		messages channels.Messages
		binary   bool
		message  string
		want     string
		code     int
	}{
		"member":         {asJSON("message"), false, `{"message": "hi", "x": 1}`, `{"message": "hi"}`, 0},
		"renamed":        {asJSON("text=message"), false, `{"message":{"a":[1.0,2]}}`, `{"text": {"a": [1.0, 2]}}`, 0},
		"Python's form":  {asJSON("m"), false, `{"m":"é\/\u00FF"}`, `{"m": "\u00e9/\u00ff"}`, 0},
		"all":            {asJSON(), false, `{"a":1,"type":"evil","b":2,"edgerelay_sender":"x"}`, `{"a": 1, "b": 2}`, 0},
		"nothing":        {asJSON(), false, `{}`, `{}`, 0},
		"set":            {set, false, `{"a":1,"user":"evil"}`, `{"a": 1, "user": 7, "k": {"a": 1}}`, 0},
		"set alone":      {set, false, `{}`, `{"user": 7, "k": {"a": 1}}`, 0},
		"missing":        {asJSON("message"), false, `{}`, "", 1007},
		"no object":      {asJSON("message"), false, `[1]`, "", 1007},
		"no JSON":        {asJSON("message"), false, `hi`, "", 1007},
		"text":           {asText, false, "h\"é", `{"message": "h\"\u00e9"}`, 0},
		"bytes":          {asText, true, "\x00\xff", `{"data": "AP8="}`, 0},
		"unwanted bytes": {asJSON("message"), true, "x", "", 1003},
		"refused":        {channels.Messages{Action: channels.RefuseMessages}, false, "x", "", 1008},
		"ignored":        {channels.Messages{}, false, "x", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, code := play(t, c.messages, !c.binary, c.message)
			if code != c.code {
				t.Errorf("closed with %d, want %d", code, c.code)
			}
			if c.want == "" {
				if len(got) > 0 {
					t.Errorf("published %q", got)
				}
				return
			}
			if len(got) != 1 || string(got[0].Text) != c.want || got[0].Group != "g" || got[0].Type != "chat.message" {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestSenderIsLeftOut(t *testing.T) {
	got, _ := play(t, channels.Messages{Action: channels.PublishMessages, Type: "t", Text: "m", Others: true}, true, "x")
	if len(got) != 1 || got[0].Sender != "sender" {
		t.Errorf("%q", got)
	}
}

func TestFloodIsClosed(t *testing.T) {
	settings, err := channels.NewSettings(nil)
	if err != nil {
		t.Fatal(err)
	}
	settings.MessageRate = 0.5
	r := newRoute(t)
	r.Apply(settings)
	s := &session{}
	c := r.Open(s, nil, func() {})
	for range 2 {
		if c.Message(true, nil); s.socket.code != 0 {
			t.Fatal("closed within the burst")
		}
	}
	if c.Message(true, nil); s.socket.code != relay.ClosePolicy {
		t.Errorf("closed with %d", s.socket.code)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	settings, err := channels.NewSettings(nil)
	if err != nil {
		t.Fatal(err)
	}
	settings.Connections, settings.ConnectionsPerUser = 3, 2
	r := newRoute(t)
	r.Apply(settings)
	first, err := r.Reserve("7")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reserve("7"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reserve("7"); err != channels.ErrTooManyOfUser {
		t.Errorf("the third of a user: %v", err)
	}
	if _, err := r.Reserve(""); err != nil {
		t.Errorf("a user that is not counted: %v", err)
	}
	if _, err := r.Reserve("8"); err != channels.ErrTooManyConnections {
		t.Errorf("the fourth: %v", err)
	}
	first()
	if _, err := r.Reserve("7"); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

// Frames of events follow the first frame, although they came before it and before the connection.
func TestHeldFramesFollowTheFirst(t *testing.T) {
	s, held := &socket{}, channels.NewSocket(false)
	held.Send([]byte("b"), 100)
	held.Bind(s)
	held.SendFirst([]byte("a"), 100)
	held.Send([]byte("c"), 100)
	held.Release()
	held.Send([]byte("d"), 100)
	if want := "\x81\x01abcd"; s.frames != want {
		t.Errorf("%q, want %q", s.frames, want)
	}
	slow := channels.NewSocket(false)
	if slow.Send(make([]byte, 101), 100) || s.code != 0 {
		t.Errorf("beyond the limit: closed with %d", s.code)
	}
	if slow.Bind(s); s.code != relay.ClosePolicy {
		t.Errorf("closed with %d", s.code)
	}
}

// deflater is a socket whose client can decode every form.
type deflater struct{ socket }

func (*deflater) Deflates() bool                      { return true }
func (*deflater) Choose(*relay.Compressed) relay.Form { return relay.Chained }

// Frames that may be kept back are plain, since first frames come before them.
func TestHeldFramesArePlain(t *testing.T) {
	s := channels.NewSocket(true)
	if got := s.Choose(&relay.Compressed{}); got != relay.Plain || !s.Deflates() {
		t.Errorf("without a connection: %v, %v", got, s.Deflates())
	}
	if s.Bind(&deflater{}); s.Choose(&relay.Compressed{}) != relay.Plain {
		t.Error("before the release")
	}
	if s.Release(); s.Choose(&relay.Compressed{}) != relay.Chained {
		t.Error("after the release")
	}
	plain := channels.NewSocket(true)
	plain.Bind(&socket{})
	if plain.Release(); plain.Choose(&relay.Compressed{}) != relay.Plain {
		t.Error("a connection without compression")
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(`{"message": "hi"}`)
	f.Add(`{"a":{"type":1},"type":2,"\u0074ype":3}`)
	f.Fuzz(func(t *testing.T, message string) {
		got, _ := play(t, channels.Messages{Action: channels.PublishMessages, Type: "t", JSON: true}, true, message)
		for _, m := range got {
			var object map[string]any
			if err := json.Unmarshal(m.Text, &object); err != nil {
				t.Fatalf("of %q: %q, %v", message, m.Text, err)
			}
			for _, name := range []string{"type", relay.SenderMember, "__asgi_channel__"} {
				if _, ok := object[name]; ok {
					t.Fatalf("of %q: %q", message, m.Text)
				}
			}
		}
	})
}
