package publish

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const testSecret = "a-secret-of-32-characters-and-so"

// layer is a channel layer that records messages. It implements [Publisher], and is its own broker.
type layer struct {
	mu   sync.Mutex
	sent []relay.Message
	// fail returns the error for a message; nil sends all.
	fail func(m relay.Message) error
	// block is received from before each message, if it is not nil.
	block chan struct{}
}

func (l *layer) PublishMessage(ctx context.Context, m relay.Message) (relay.Receipt, error) {
	if l.block != nil {
		select {
		case <-l.block:
		case <-ctx.Done():
			return relay.Receipt{}, ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		if err := l.fail(m); err != nil {
			return relay.Receipt{}, err
		}
	}
	m.Text = slices.Clone(m.Text)
	l.sent = append(l.sent, m)
	return relay.Receipt{Members: 2, OverCapacity: 1}, nil
}

func (l *layer) setFail(fail func(m relay.Message) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

func (l *layer) messages() []relay.Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sent)
}

// groups returns the groups that got a message, in order.
func (l *layer) groups() string {
	var names []string
	for _, m := range l.messages() {
		names = append(names, m.Group)
	}
	return strings.Join(names, " ")
}

// Broker returns the layer as a broker. The endpoint asks it for optional interfaces only.
func (l *layer) Broker() relay.Broker { return broker{nil, l} }

type broker struct {
	relay.Broker
	relay.MessagePublisher
}

var errLayer = errors.New("the layer is away")

// newEndpoint returns an endpoint with a key for orders-*.
func newEndpoint(t testing.TB, keys ...KeySettings) (*Endpoint, *layer) {
	t.Helper()
	if len(keys) == 0 {
		keys = []KeySettings{{Name: "shop", Secrets: []string{testSecret}, Groups: []string{"orders-*"}}}
	}
	var list []*Key
	for _, s := range keys {
		list = append(list, mustKey(t, s))
	}
	all, err := NewKeys(list...)
	if err != nil {
		t.Fatal(err)
	}
	l := &layer{}
	e := &Endpoint{
		Keys: all, Publisher: l, Claims: &LocalClaims{}, MaxBody: DefaultMaxBody, MaxMessages: DefaultMaxMessages,
		Idempotency: DefaultIdempotency, Unauthorized: &Counters{}, Log: slog.New(slog.DiscardHandler),
	}
	e.Init()
	return e, l
}

func mustKey(t testing.TB, s KeySettings) *Key {
	t.Helper()
	k, err := NewKey(s, &Counters{})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// answer is a response.
type answer struct {
	*http.Response
	body string
	Outcome
	problemBody
}

// post sends a body with the test's secret, and headers as pairs of name and value.
func post(t testing.TB, e http.Handler, body string, headers ...string) answer {
	t.Helper()
	return do(t, e, http.MethodPost, strings.NewReader(body), headers...)
}

func do(t testing.TB, e http.Handler, method string, body io.Reader, headers ...string) answer {
	t.Helper()
	r := httptest.NewRequest(method, "/edgerelay/publish", body)
	r.Header.Set("Authorization", "Bearer "+testSecret)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	a := answer{Response: w.Result(), body: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &a.Outcome); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &a.problemBody); err != nil {
		t.Fatal(err)
	}
	return a
}

// clock is a clock that a test sets.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}
