package publish

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

func TestMessageIsPublishedToEachGroup(t *testing.T) {
	e, l := newEndpoint(t)
	a := post(t, e, `{"groups": ["orders-1", "orders-2"], "type": "order.changed", "data": {"n": 1, "b": "AA=="}, "binary": ["b"]}`)
	if a.StatusCode != 200 || a.Published != 2 || len(a.Results) != 2 || a.Results[0].Group != "orders-1" ||
		a.Results[1].Members != 2 || a.Results[1].OverCapacity != 1 {
		t.Errorf("got %d %s", a.StatusCode, a.body)
	}
	sent := l.messages()
	if len(sent) != 2 || sent[0].Type != "order.changed" || string(sent[0].Text) != `{"n": 1, "b": "AA=="}` ||
		len(sent[0].Binary) != 1 {
		t.Errorf("sent %+v", sent)
	}
	if c := e.Keys.List()[0].Counters(); c.Sent.Load() != 2 || c.Used().IsZero() {
		t.Errorf("counted %d, used %v", c.Sent.Load(), c.Used())
	}
}

func TestRejectedRequests(t *testing.T) {
	e, l := newEndpoint(t, KeySettings{
		Name: "shop", Secrets: []string{testSecret}, Groups: []string{"orders-*"}, Types: []string{"order.*", "internal.message", "*"},
	})
	e.MaxBody, e.MaxMessages = 300, 3
	const valid = `{"group": "orders-1", "type": "order.changed"}`
	for _, c := range []struct {
		name, body string
		headers    []string
		status     int
		want       string
	}{
		{"no key", valid, []string{"Authorization", ""}, 401, `"reason":"unauthorized"`},
		{"wrong key", valid, []string{"Authorization", "Bearer x"}, 401, "not valid"},
		{"unknown scheme", valid, []string{"Authorization", "Digest x"}, 401, "not valid"},
		{"form", valid, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "application/json"},
		{"text, as browsers send it to other sites", valid, []string{"Content-Type", "text/plain"}, 415, "application/json"},
		{"no type", valid, []string{"Content-Type", ""}, 415, "application/json"},
		{"other charset", valid, []string{"Content-Type", "application/json; charset=latin1"}, 415, "application/json"},
		{"compressed", valid, []string{"Content-Encoding", "gzip"}, 415, "compressed"},
		{"too long", `{"group": "orders-1", "text": "` + strings.Repeat("x", 300) + `"}`, nil, 413, "300 bytes"},
		{"too many", `{"groups": ["orders-1", "orders-2", "orders-3", "orders-4"], "text": ""}`, nil, 413, "more than 3"},
		{"malformed", `{"group": "orders-1", "type": "t", "data": {"n": NaN}}`, nil, 400, `"pointer":"/data/n"`},
		{"forbidden group", `{"groups": ["orders-1", "jobs-1"], "text": ""}`, nil, 403, `"reason":"group","pointer":"/groups/1"`},
		{"forbidden group in a batch", `{"messages": [{"group": "orders-1", "text": ""}, {"group": "jobs-1", "text": ""}]}`, nil, 403, `"pointer":"/messages/1/group"`},
		{"reserved type", `{"group": "orders-1", "type": "websocket.disconnect"}`, nil, 403, `"reason":"type","pointer":"/type"`},
		{"type of a reserved handler", `{"group": "orders-1", "type": "websocket_receive"}`, nil, 403, `"reason":"type","pointer":"/type"`},
		{"GRIP item without a channel", `{"items": [{}]}`, nil, 400, `"pointer":"/items"`},
		{"GRIP channel of another key", `{"items": [{"channel": "x", "formats": {"ws-message": {"content": "x"}}}]}`, nil, 403, `"pointer":"/items/0/channel"`},
		{"two idempotency keys", valid, []string{"Idempotency-Key", "a b"}, 400, "printable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := post(t, e, c.body, c.headers...)
			if a.StatusCode != c.status || a.problemBody.Status != c.status || !strings.Contains(a.body, c.want) ||
				a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("got %d %s, want %d %s", a.StatusCode, a.body, c.status, c.want)
			}
			if a.StatusCode == 401 && a.Header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
			for name := range a.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("the answer has %s", name)
				}
			}
		})
	}
	for _, method := range []string{"GET", "OPTIONS", "PUT", "HEAD"} {
		if a := do(t, e, method, strings.NewReader(valid)); a.StatusCode != 405 || a.Header.Get("Allow") != "POST" {
			t.Errorf("%s: %d %s", method, a.StatusCode, a.body)
		}
	}
	if sent := l.messages(); len(sent) > 0 {
		t.Errorf("rejected requests sent %+v", sent)
	}
}

func TestReservedTypesMustBeNamed(t *testing.T) {
	k := mustKey(t, KeySettings{Name: "k", Secrets: []string{"s"}, Groups: []string{"*"}, Types: []string{"websocket.send", "order.*"}})
	for kind, want := range map[string]bool{
		"websocket.send": true, "websocket.close": false, "order.changed": true, "": false, "chat": false,
	} {
		if got := k.allowsType(kind, false); got != want {
			t.Errorf("type %q: %v, want %v", kind, got, want)
		}
	}
	k = mustKey(t, KeySettings{Name: "k", Secrets: []string{"s"}, Groups: []string{"*"}})
	if !k.allowsType("", false) || !k.allowsType("chat.message", false) || k.allowsType("grip.item", false) || !k.allowsType("grip.item", true) {
		t.Error("without types: want every type that is not reserved, and GRIP's only by a GRIP publication")
	}
}

func TestRate(t *testing.T) {
	e, _ := newEndpoint(t, KeySettings{Name: "k", Secrets: []string{testSecret}, Groups: []string{"*"}, Rate: 2, Burst: 3})
	c := &clock{at: time.Unix(1000, 0)}
	l := e.Keys.List()[0].limit
	l.now, l.at = c.now, c.now()
	batch := `{"groups": ["a", "b", "c", "d", "e"], "text": ""}`
	if a := post(t, e, batch); a.StatusCode != 200 { // into debt, -2
		t.Fatalf("a batch above the burst: %d %s", a.StatusCode, a.body)
	}
	a := post(t, e, `{"group": "a", "text": ""}`)
	if a.StatusCode != 429 || a.Header.Get("Retry-After") != "2" {
		t.Errorf("in debt: %d, Retry-After %q; want 429 and 2", a.StatusCode, a.Header.Get("Retry-After"))
	}
	c.advance(1500 * time.Millisecond)
	if a := post(t, e, `{"group": "a", "text": ""}`); a.StatusCode != 200 {
		t.Errorf("out of debt: %d %s", a.StatusCode, a.body)
	}
}

func TestOrderWithinAGroupSurvivesAFailure(t *testing.T) {
	e, l := newEndpoint(t)
	l.setFail(func(m relay.Message) error {
		if string(m.Text) == "2" {
			return errLayer
		}
		return nil
	})
	body := `{"messages": [{"group": "orders-1", "text": "1", "id": "1"}, {"group": "orders-1", "text": "2", "id": "2"},
		{"group": "orders-1", "text": "3", "id": "3"}, {"group": "orders-2", "text": "4", "id": "4"}]}`
	a := post(t, e, body)
	if a.StatusCode != 207 || a.Published != 2 || a.Failed != 2 || a.Header.Get("Retry-After") == "" ||
		a.Results[1].Error.Sent != "unknown" || a.Results[2].Error.Sent != "no" {
		t.Fatalf("got %d %s", a.StatusCode, a.body)
	}
	l.setFail(nil)
	a = post(t, e, body)
	if a.StatusCode != 200 || a.Published != 2 || a.Deduplicated != 2 || !a.Results[0].Deduplicated || a.Results[0].Members != 2 {
		t.Errorf("the retry: %d %s", a.StatusCode, a.body)
	}
	var order string
	for _, m := range l.messages() {
		if m.Group == "orders-1" {
			order += string(m.Text)
		}
	}
	if order != "123" {
		t.Errorf("sent in the order %s, want 123", order)
	}
}

func TestLayerThatIsAway(t *testing.T) {
	e, l := newEndpoint(t)
	l.setFail(func(relay.Message) error { return errLayer })
	a := post(t, e, `{"groups": ["orders-1", "orders-2"], "text": "x"}`)
	if a.StatusCode != 503 || a.Header.Get("Retry-After") == "" || a.Failed != 2 || a.problemBody.Reason != "channel_layer" {
		t.Errorf("got %d %s", a.StatusCode, a.body)
	}
	if strings.Contains(a.body, errLayer.Error()) {
		t.Errorf("the answer tells internals: %s", a.body)
	}
}

func TestLayerWithoutTypes(t *testing.T) {
	e, l := newEndpoint(t)
	e.Publisher = textOnly{l}
	if a := post(t, e, `{"group": "orders-1", "type": "t"}`); a.StatusCode != 501 || a.problemBody.Reason != "unsupported" {
		t.Errorf("a type: %d %s", a.StatusCode, a.body)
	}
	if a := post(t, e, `{"group": "orders-1", "text": "t"}`); a.StatusCode != 200 {
		t.Errorf("text: %d %s", a.StatusCode, a.body)
	}
}

type textOnly struct{ *layer }

func (textOnly) Broker() relay.Broker { return struct{ relay.Broker }{} }

func TestGRIP(t *testing.T) {
	e, l := newEndpoint(t, KeySettings{Name: "k", Secrets: []string{testSecret}, Groups: []string{"grip.*"}})
	const body = `{"items": [{"channel": "a", "formats": {"ws-message": {"content": "x"}}}, {"channel": "b", "ws-message": {"content": "y"}}]}`
	if a := post(t, e, body); a.StatusCode != 200 || a.Published != 2 {
		t.Errorf("got %d %s, sent %q", a.StatusCode, a.body, l.groups())
	}
	l.setFail(func(m relay.Message) error {
		if m.Group == "grip.b" {
			return errLayer
		}
		return nil
	})
	if a := post(t, e, body); a.StatusCode != 503 || a.Published != 1 {
		t.Errorf("a GRIP publication of which a part failed: %d %s, want 503", a.StatusCode, a.body)
	}
	if c := l.messages()[slices.IndexFunc(l.messages(), func(m relay.Message) bool { return m.Group == "grip.a" })]; c.Type != "grip.item" || string(c.Text) != `{"ws-message": {"content":"x"}}` {
		t.Errorf("sent %+v", c)
	}
}

// A key is allowed channels of GRIP by their names, whether they are names of groups or not.
func TestGRIPChannels(t *testing.T) {
	e, l := newEndpoint(t, KeySettings{Name: "k", Secrets: []string{testSecret}, Groups: []string{"grip.room *", "grip.a/b:*"}})
	for channel, status := range map[string]int{
		"room 5": 200, "room ü/7": 200, "a/b:c": 200, "a/b:c/d": 200, "room5": 403, "other room": 403, "a": 403, "a/c": 403,
	} {
		a := post(t, e, `{"items": [{"channel": "`+channel+`", "ws-message": {"content": "x"}}]}`)
		if a.StatusCode != status || status == 403 && !strings.Contains(a.body, "grip."+channel) {
			t.Errorf("%s: %d %s, want %d", channel, a.StatusCode, a.body, status)
		}
	}
	for _, m := range l.messages() {
		if !strings.HasPrefix(m.Group, "grip-.") {
			t.Errorf("group %s", m.Group)
		}
	}
}

// A client that goes away while its messages are sent leaves none half sent.
func TestClientThatGoesAway(t *testing.T) {
	e, l := newEndpoint(t)
	l.block = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "POST", "/", strings.NewReader(`{"messages": [{"group": "orders-1", "text": "1"}, {"group": "orders-1", "text": "2"}]}`))
	r.Header.Set("Authorization", "Bearer "+testSecret)
	r.Header.Set("Content-Type", "application/json")
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.ServeHTTP(httptest.NewRecorder(), r)
	}()
	l.block <- struct{}{}
	cancel()
	l.block <- struct{}{}
	<-done
	if got := len(l.messages()); got != 2 {
		t.Errorf("%d messages sent, want 2", got)
	}
}

func TestSlowBody(t *testing.T) {
	e, l := newEndpoint(t)
	e.BodyTimeout = 50 * time.Millisecond
	plain, two := httptest.NewServer(e), httptest.NewUnstartedServer(e)
	defer plain.Close()
	two.EnableHTTP2 = true
	two.StartTLS()
	defer two.Close()
	for name, drip := range map[string]bool{
		"HTTP/1.1 silent": false, "HTTP/1.1 drips": true, "HTTP/2 silent": false, "HTTP/2 drips": true,
	} {
		t.Run(name, func(t *testing.T) {
			s := plain
			if strings.HasPrefix(name, "HTTP/2") {
				s = two
			}
			body, w := io.Pipe()
			stop := make(chan struct{})
			go func() {
				defer w.Close()
				_, _ = w.Write([]byte(`{"group": "orders-1", "text": "`))
				for drip {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
						if _, err := w.Write([]byte("x")); err != nil {
							return
						}
					}
				}
				<-stop
			}()
			defer close(stop)
			r, err := http.NewRequest("POST", s.URL, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+testSecret)
			r.Header.Set("Content-Type", "application/json")
			resp, err := s.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if !strings.HasPrefix(name, resp.Proto[:6]) {
				t.Errorf("the protocol is %s", resp.Proto)
			}
			if resp.StatusCode != 408 || len(l.messages()) > 0 {
				t.Errorf("got %d, want 408", resp.StatusCode)
			}
		})
	}
}

func TestTooManyRequestsAtOnce(t *testing.T) {
	e, l := newEndpoint(t)
	e.slots = make(chan struct{}, 1)
	l.block = make(chan struct{})
	done := make(chan int)
	go func() { done <- post(t, e, `{"group": "orders-1", "text": "1"}`).StatusCode }()
	l.block <- struct{}{}
	for { // the first request may be on its way out
		a := post(t, e, `{"group": "orders-1", "text": "2"}`, "Content-Type", "")
		if a.StatusCode == 415 {
			break
		}
		if a.StatusCode != 503 || a.problemBody.Reason != "busy" || a.Header.Get("Retry-After") == "" {
			t.Fatalf("got %d %s", a.StatusCode, a.body)
		}
	}
	if status := <-done; status != 200 {
		t.Errorf("the first request: %d", status)
	}
}
