package awx_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
)

func shared() *awx.Shared {
	return &awx.Shared{Log: slog.New(slog.DiscardHandler)}
}

// socket records the frames that a client receives.
type socket struct {
	mu     sync.Mutex
	frames []string
	closed int
	ended  chan struct{} // closed with the socket
}

func (s *socket) Send(frame []byte, _ int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != 0 {
		return false
	}
	for len(frame) > 0 { // one buffer may hold several frames
		size, header := int(frame[1]), 2
		switch size {
		case 126:
			size, header = int(frame[2])<<8|int(frame[3]), 4
		case 127:
			size, header = int(frame[6])<<24|int(frame[7])<<16|int(frame[8])<<8|int(frame[9]), 10
		}
		s.frames = append(s.frames, string(frame[header:header+size]))
		frame = frame[header+size:]
	}
	return true
}

func (s *socket) Close(code int, _ string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed == 0 {
		s.closed = code
		close(s.ended)
	}
}

func (s *socket) SendCopy(frames []byte, limit int) bool { return s.Send(frames, limit) }

func (s *socket) Ping() bool          { return true }
func (s *socket) Kill()               { s.Close(1006, "") }
func (s *socket) LastRead() time.Time { return time.Now() }

func (s *socket) Waiting() (int, bool) { return 0, false }

// take returns the frames that have come since the last call.
func (s *socket) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	frames := s.frames
	s.frames = nil
	return frames
}

// stubAuthorizer denies the kind "secret" and fails for the kind "unknown".
type stubAuthorizer struct{ relay.Open }

func (stubAuthorizer) Authorize(_ context.Context, _ relay.Identity, group string) error {
	switch kind, _, _ := strings.Cut(group, "-"); kind {
	case "secret":
		return relay.ErrDenied
	case "unknown":
		return errors.New("the API is down")
	}
	return nil
}

func (stubAuthorizer) Authenticate(*http.Request) (relay.Identity, error) {
	return relay.Identity{}, relay.ErrUnauthenticated
}

const token = "t0ken"

func newHub(t testing.TB, edit func(*relay.Limits)) *hub.Hub {
	t.Helper()
	h := hub.New(slog.New(slog.DiscardHandler))
	h.SetAuthorizer(stubAuthorizer{}, 0)
	limits := relay.DefaultLimits()
	limits.SubscribeRate = 0
	if edit != nil {
		edit(&limits)
	}
	h.SetLimits(limits)
	if err := h.SetBroker(context.Background(), memory.NewLayer().Broker()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

// play sends messages as one client and returns the frames after the greeting. The session stays open until the test
// ends.
func play(t testing.TB, h *hub.Hub, messages ...string) (*socket, []string) {
	t.Helper()
	s := &socket{ended: make(chan struct{})}
	session := h.Open(s, relay.Identity{ID: `7`, Key: "7"}, netip.Addr{})
	c := &awx.Client{Shared: shared(), Session: session, CSRFToken: token}
	t.Cleanup(c.Ended)
	s.Send(awx.Greeting(session.Identity()), 0)
	for _, m := range messages {
		c.Message(true, []byte(m))
	}
	frames := s.take()
	if len(frames) == 0 || frames[0] != `{"accept": true, "user": 7}` {
		t.Fatalf("first frames %q, want the greeting", frames)
	}
	return s, frames[1:]
}

func groups(object string) string { return `{"groups": ` + object + `, "xrftoken": "` + token + `"}` }

const (
	denied  = `{"error": "access denied to channel"}`
	nothing = `{"groups_current": [], "groups_left": [], "groups_joined": []}`
)

func accessDenied(kind, item string) string {
	return `{"error": "access denied to channel ` + kind + ` for resource id ` + item + `"}`
}

func joined(names ...string) string {
	list := `["` + strings.Join(names, `", "`) + `"]`
	return `{"groups_current": ` + list + `, "groups_left": [], "groups_joined": ` + list + `}`
}

func TestMessages(t *testing.T) {
	noGroup := func(name string) string {
		return `{"error": "no such group: ` + name + `: a group name is 1 to 99 ASCII letters, digits, '-', '_' or '.'"}`
	}
	const notObject = `{"error": "a message must be a JSON object"}`
	const notLists = `{"error": "groups must be an object of lists"}`
	for message, want := range map[string][]string{
		groups(`{"jobs": ["summary"]}`):                    {joined("jobs-summary")},
		groups(`{"job_events": [42, "43", 42, "42"]}`):     {joined("job_events-42", "job_events-43")},
		groups(`{"a": [1], "a": [2]}`):                     {joined("a-2")},
		groups(`{"b": [1], "a": [1], "b": [2]}`):           {joined("b-2", "a-1")},
		groups(`{"a": 1, "a": [2]}`):                       {joined("a-2")},
		groups(`{"a": [2], "a": 1}`):                       {denied},
		groups(`{"a": [-5, -0, 0]}`):                       {joined("a--5", "a-0")},
		groups(`{"a": [` + strings.Repeat("9", 90) + `]}`): {joined("a-" + strings.Repeat("9", 90))},
		groups(`{"a": [""]}`):                              {joined("a-")},
		groups(`{"\u0061": ["\u0062"]}`):                   {joined("a-b")},
		groups(`{}`):                                       {nothing},
		groups(`{"a": []}`):                                {nothing},
		groups(`{"secret": [1], "a": [1], "unknown": ["x"]}`): {
			accessDenied("secret", "1"), accessDenied("unknown", "x"), joined("a-1"),
		},
		groups(`{"broadcast": ["group_send"], "a": [1]}`):                   {accessDenied("broadcast", "group_send"), joined("a-1")},
		`{"xrftoken": "t0ken"}`:                                             nil,
		`{"groups": {"a": [1]}, "xrftoken": "wrong", "xrftoken": "t0ken"}`:  {joined("a-1")},
		`{"groups": {"a": [1]}, "xrftoken": "t0ken", "xrftoken": "wrong"}`:  {denied},
		`{"groups": {"a": [1]}, "groups": {"b": [1]}, "xrftoken": "t0ken"}`: {joined("b-1")},
		`{"groups": {"a": [1]}}`:                                            {denied},
		`{}`:                                                                {denied},
		`{"groups": {"a": [1]}, "xrftoken": null}`:                          {denied},
		`{"groups": {"a": [1]}, "xrftoken": ["t0ken"]}`:                     {denied},
		`{"groups": {"a": [1]}, "xrftoken": "T0ken"}`:                       {denied},
		`{"groups": {"a": [1]}, "xrftoken": ""}`:                            {denied},
		`{"groups": {"a": [1]}, "XrfToken": "t0ken"}`:                       {denied},
		`{"Groups": {"a": [1]}, "xrftoken": "t0ken"}`:                       nil,
		`[]`:                       {notObject},
		`null`:                     {notObject},
		`"x"`:                      {notObject},
		`1`:                        {notObject},
		``:                         {notObject},
		`{`:                        {notObject},
		`{"xrftoken": "t0ken"} {}`: {notObject},
		`{"a": NaN}`:               {notObject},
		strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000):                        {notObject},
		strings.Repeat(`{"a":`, 10_001) + "1" + strings.Repeat("}", 10_001):              {notObject},
		groups(strings.Repeat(`{"a":`, 9_000) + "1" + strings.Repeat("}", 9_000)):        {denied},
		groups(`{"a": ` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + `}`): {noGroup("a-" + strings.Repeat("[", 120) + "\\u2026")},
		groups(`null`):                    {notLists},
		groups(`[]`):                      {notLists},
		groups(`"x"`):                     {notLists},
		groups(`1`):                       {notLists},
		groups(`true`):                    {notLists},
		groups(`{"a": null}`):             {denied},
		groups(`{"a": {}}`):               {denied},
		groups(`{"a": "x"}`):              {denied},
		groups(`{"a": 1}`):                {denied},
		groups(`{"a": true}`):             {denied},
		groups(`{"secret": [1], "b": 1}`): {accessDenied("secret", "1"), denied},
		groups(`{"a": [1e2]}`):            {noGroup("a-1e2")},
		groups(`{"a": [1.0]}`):            {noGroup("a-1.0")},
		groups(`{"a": [null]}`):           {noGroup("a-null")},
		groups(`{"a": [true]}`):           {noGroup("a-true")},
		groups(`{"a": [[1]]}`):            {noGroup("a-[1]")},
		groups(`{"a": ["é"]}`):            {noGroup(`a-\u00e9`)},
		groups(`{"é": [1]}`):              {noGroup(`\u00e9-1`)},
		groups(`{"a": ["\ud800"]}`):       {noGroup(`a-\\ud800`)},
		groups(`{"a": ["\u0000"]}`):       {noGroup(`a-\\u0000`)},
		groups(`{"a": ["x y"]}`):          {noGroup(`a-x y`)},
		groups(`{"a": ["x/../y"]}`):       {noGroup(`a-x/../y`)},
		groups(`{"a": ["` + strings.Repeat("x", 98) + `"]}`):    {noGroup("a-" + strings.Repeat("x", 98))},
		groups(`{"a": ["` + strings.Repeat("x", 97) + `"]}`):    {joined("a-" + strings.Repeat("x", 97))},
		groups(`{"a": [1` + strings.Repeat("0", 60_000) + `]}`): {noGroup("a-1" + strings.Repeat("0", 119) + `\u2026`)},
	} {
		h := newHub(t, nil)
		_, got := play(t, h, message)
		if !slices.Equal(got, want) {
			t.Errorf("%.200s\ngot  %.400q\nwant %.400q", message, got, want)
		}
	}
}

func TestBinaryMessage(t *testing.T) {
	h := newHub(t, nil)
	s := &socket{ended: make(chan struct{})}
	session := h.Open(s, relay.Identity{ID: `7`}, netip.Addr{})
	defer session.Close()
	c := &awx.Client{Shared: shared(), Session: session, CSRFToken: token}
	s.Send(awx.Greeting(session.Identity()), 0)
	c.Message(false, []byte(groups(`{"a": [1]}`)))
	if got := s.take(); len(got) != 2 || got[1] != `{"error": "a message must be a text frame"}` {
		t.Errorf("%q", got)
	}
	if len(h.Interested()) > 0 {
		t.Errorf("subscribed to %q, want nothing", h.Interested())
	}
}

// After a handshake without a csrftoken cookie, every message is rejected, even with an empty token.
func TestHandshakeWithoutToken(t *testing.T) {
	h := newHub(t, nil)
	s := &socket{ended: make(chan struct{})}
	session := h.Open(s, relay.Identity{ID: `7`}, netip.Addr{})
	defer session.Close()
	c := &awx.Client{Shared: shared(), Session: session}
	s.Send(awx.Greeting(session.Identity()), 0)
	c.Message(true, []byte(`{"groups": {"a": [1]}, "xrftoken": ""}`))
	c.Message(true, []byte(`{"groups": {"a": [1]}}`))
	if got := s.take(); !slices.Equal(got[1:], []string{denied, denied}) {
		t.Errorf("%q", got)
	}
}

func TestRejectedMessageKeepsSubscriptions(t *testing.T) {
	for _, rejected := range []string{
		`{"groups": {"b": [1]}, "xrftoken": "wrong"}`, `junk`, groups(`null`), groups(`{"b": [1], "c": 2}`),
		groups(`{"b": [1, "ä"]}`), groups(`{"b": [1, 2, 3, 4]}`),
	} {
		h := newHub(t, func(l *relay.Limits) { l.GroupsPerConnection = 3 })
		s, frames := play(t, h, groups(`{"a": [1, 2, 3]}`), rejected)
		if len(frames) != 2 || !strings.HasPrefix(frames[1], `{"error": "`) {
			t.Errorf("%s: %q", rejected, frames)
		}
		current := h.Interested()
		slices.Sort(current)
		if !slices.Equal(current, []string{"a-1", "a-2", "a-3"}) {
			t.Errorf("%s: subscribed to %q", rejected, current)
		}
		if _, err := h.Publish(t.Context(), "a-2", []byte(`{"x":  1}`)); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the event comes", func() bool { return slices.Equal(s.take(), []string{`{"x":  1}`}) })
	}
}

func TestGroupLimit(t *testing.T) {
	h := newHub(t, func(l *relay.Limits) { l.GroupsPerConnection = 3 })
	_, frames := play(t, h, groups(`{"a": [1, 2, 3, 4]}`), groups(`{"a": [1, 2, 3, 3, 3, 1]}`))
	want := []string{`{"error": "too many groups: 4 wanted, at most 3 a connection"}`, joined("a-1", "a-2", "a-3")}
	if !slices.Equal(frames, want) {
		t.Errorf("%q, want %q", frames, want)
	}
}

// Messages beyond the rate get an error. A client that keeps sending is disconnected with 1008.
func TestRateLimit(t *testing.T) {
	h := newHub(t, func(l *relay.Limits) { l.SubscribeRate = 2 })
	var burst []string
	for range 13 {
		burst = append(burst, `{"xrftoken": "t0ken", "groups": {}}`)
	}
	s, frames := play(t, h, burst...)
	accepted, rejected := 0, 0
	for _, f := range frames {
		switch f {
		case nothing:
			accepted++
		case `{"error": "too many messages: at most 2 a second"}`:
			rejected++
		default:
			t.Errorf("sent %s", f)
		}
	}
	// The burst is ten messages; on a slow machine, one or two more are earned in the meantime.
	if accepted < 10 || rejected == 0 || accepted+rejected != 13 || s.closed != 0 {
		t.Errorf("%d accepted, %d rejected, closed with %d", accepted, rejected, s.closed)
	}
	for range 1000 {
		burst = append(burst, `junk`)
	}
	if s, _ := play(t, h, burst...); s.closed != relay.ClosePolicy {
		t.Errorf("a flood was closed with %d, want %d", s.closed, relay.ClosePolicy)
	}
}

// For the race detector: many clients at once, each with its own responses.
func TestConcurrentClients(t *testing.T) {
	h := newHub(t, nil)
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			var messages []string
			for n := range 50 {
				messages = append(messages, groups(fmt.Sprintf(`{"a": [%d, %d]}`, n%5, (n+i)%7)))
			}
			if _, frames := play(t, h, messages...); len(frames) != 50 {
				t.Errorf("%d responses, want 50", len(frames))
			}
		})
	}
	clients.Wait()
}

func FuzzClientMessage(f *testing.F) {
	for _, m := range []string{
		groups(`{"jobs": ["summary", 1, -0], "broadcast": ["group_send"]}`), groups(`{"secret": [1], "a": {"b": null}}`), groups(`{"a": [1], "a": ["\ud800"]}`),
		groups(`[[]]`), `{"groups": 1e999}`, "\xff", `{"groups": {"broadcast-group": ["send"], "": [""]}, "xrftoken": "t0ken"}`, groups(`{"a":[1],}`),
	} {
		f.Add([]byte(m))
	}
	h := newHub(f, nil)
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := &socket{ended: make(chan struct{})}
		session := h.Open(s, relay.Identity{ID: `7`, Key: "7"}, netip.Addr{})
		defer session.Close()
		c := &awx.Client{Shared: shared(), Session: session, CSRFToken: token}
		s.Send(awx.Greeting(session.Identity()), 0)
		c.Message(true, bytes.Clone(raw))
		for _, frame := range s.take() {
			var response struct {
				Current []string `json:"groups_current"`
			}
			if err := json.Unmarshal([]byte(frame), &response); err != nil {
				t.Errorf("sent %q: %v", frame, err)
			}
			for _, g := range response.Current {
				if !relay.ValidGroup(g) || g == awx.BroadcastGroup ||
					strings.HasPrefix(g, "secret-") || strings.HasPrefix(g, "unknown-") {
					t.Errorf("subscribed to %q", g)
				}
			}
		}
	})
}
