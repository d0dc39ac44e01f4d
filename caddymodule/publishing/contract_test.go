package publishing

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/docs"
	"github.com/edgerelay/edgerelay/internal/contract"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/publish"
)

const (
	testSecret      = "a-secret-of-32-characters-and-so"
	endpointPath    = "/edgerelay/publish"
	descriptionTest = endpointPath + descriptionPath
)

// faultyLayer is a channel layer that fails for groups that end with "-down".
type faultyLayer struct {
	textOnly bool
	// entered is closed when a message for orders-slow has arrived, which is sent when slow is closed.
	entered, slow chan struct{}
}

func (l *faultyLayer) PublishMessage(ctx context.Context, m relay.Message) (relay.Receipt, error) {
	if m.Group == "orders-slow" {
		close(l.entered)
		<-l.slow
	}
	if strings.HasSuffix(m.Group, "-down") {
		return relay.Receipt{}, errors.New("the layer is away")
	}
	return relay.Receipt{Members: 1}, nil
}

func (l *faultyLayer) Broker() relay.Broker {
	if l.textOnly {
		return struct{ relay.Broker }{}
	}
	return struct {
		relay.Broker
		relay.MessagePublisher
	}{nil, l}
}

// contractServer returns the address of an endpoint on a server, as the handler mounts it.
func contractServer(t *testing.T, l *faultyLayer) string {
	t.Helper()
	key, err := publish.NewKey(publish.KeySettings{
		Name: "shop", Secrets: []string{testSecret}, Groups: []string{"orders-*", "grip.*"},
	}, &publish.Counters{})
	if err != nil {
		t.Fatal(err)
	}
	slow, err := publish.NewKey(publish.KeySettings{
		Name: "slow", Secrets: []string{"slow"}, Groups: []string{"*"}, Rate: 0.001,
	}, &publish.Counters{})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := publish.NewKeys(key, slow)
	if err != nil {
		t.Fatal(err)
	}
	h := &Handler{path: endpointPath, endpoint: &publish.Endpoint{
		Keys: keys, Publisher: l, Claims: &publish.LocalClaims{}, Unauthorized: &publish.Counters{},
		Log: slog.New(slog.DiscardHandler), MaxBody: 4096, MaxMessages: 10, Idempotency: time.Minute,
		BodyTimeout: 100 * time.Millisecond, WaitTimeout: 10 * time.Millisecond,
	}}
	h.endpoint.Init()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.serve(w, r, r.URL.Path == descriptionTest); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Every documented status is answered, in the documented form, and nothing else.
func TestEndpointKeepsItsContract(t *testing.T) {
	c := contract.New(t, docs.PublishOpenAPI)
	layer := &faultyLayer{entered: make(chan struct{}), slow: make(chan struct{})}
	url, textOnly := contractServer(t, layer), contractServer(t, &faultyLayer{textOnly: true})
	call := func(url, method, path string, body io.Reader, headers ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequest(method, url+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+testSecret)
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		documented := method
		if resp.StatusCode == http.StatusMethodNotAllowed { // described at the path's own method
			documented = c.Methods(path)[0]
		}
		c.Check(documented, path, resp.StatusCode, resp.Header.Get("Content-Type"), string(answer))
		if wants := resp.StatusCode == 207 || resp.StatusCode == 409 || resp.StatusCode == 429 || resp.StatusCode == 503; wants != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("%d has Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
		}
		return resp
	}
	post := func(body string, headers ...string) {
		t.Helper()
		call(url, "POST", endpointPath, strings.NewReader(body), headers...)
	}
	const valid = `{"group": "orders-1", "type": "order.changed", "data": {"n": 1}, "id": "1"}`
	post(valid)
	post(valid)
	post(`{"items": [{"channel": "x", "ws-message": {"content": "x"}}]}`)
	post(`{"messages": [{"group": "orders-1", "text": "x"}, {"group": "orders-down", "text": "x"}]}`)
	post(`{"group": "orders-1"}`)
	post(valid, "Authorization", "Bearer x")
	post(`{"group": "jobs-1", "text": "x"}`)
	post(`{"group": "orders-1", "type": "websocket.close"}`)
	call(url, "PUT", endpointPath, nil)
	post(`{"group": "orders-1", "text": "` + strings.Repeat("x", 5000) + `"}`)
	post(valid, "Content-Type", "text/plain")
	post(`{"group": "orders-1", "text": "x", "id": "1"}`)
	post(`{"group": "a", "text": "x"}`, "Authorization", "Bearer slow")
	post(`{"group": "a", "text": "x"}`, "Authorization", "Bearer slow")
	call(textOnly, "POST", endpointPath, strings.NewReader(valid))
	post(`{"group": "orders-down", "text": "x"}`)

	body, w := io.Pipe()
	call(url, "POST", endpointPath, body) // nothing arrives
	w.Close()

	const slow = `{"group": "orders-slow", "text": "x", "id": "slow"}`
	var first sync.WaitGroup
	first.Go(func() {
		r, err := http.NewRequest("POST", url+endpointPath, strings.NewReader(slow))
		if err != nil {
			t.Error(err)
			return
		}
		r.Header.Set("Authorization", "Bearer "+testSecret)
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	})
	<-layer.entered
	call(url, "POST", endpointPath, strings.NewReader(slow))
	close(layer.slow)
	first.Wait()

	call(url, "GET", descriptionTest, nil)
	call(url, "GET", descriptionTest, nil, "Authorization", "Bearer x")
	call(url, "DELETE", descriptionTest, nil)
	for _, name := range c.Unseen() {
		t.Errorf("never answered: %s", name)
	}
}

// What the description allows, the endpoint takes, and the other way round.
func TestRequestsAreAsDescribed(t *testing.T) {
	c := contract.New(t, docs.PublishOpenAPI)
	url := contractServer(t, &faultyLayer{})
	for body, valid := range map[string]bool{
		`{"group": "orders-1", "type": "t"}`: true,
		`{"groups": ["orders-1", "orders-2"], "type": "t", "data": {"b": "AA=="}, "binary": ["b"], "id": "x"}`: true,
		`{"group": "orders-1", "text": ""}`:                             true,
		`{"messages": [{"group": "orders-1", "text": ""}]}`:             true,
		`{"items": [{"channel": "x", "ws-message": {"content": "x"}}]}`: true,
		`{"group": "orders-1"}`:                                         false,
		`{"type": "t"}`:                                                 false,
		`{"group": "orders-1", "groups": ["orders-1"], "type": "t"}`:    false,
		`{"groups": [], "type": "t"}`:                                   false,
		`{"groups": ["orders-1", "orders-1"], "type": "t"}`:             false,
		`{"group": "orders 1", "type": "t"}`:                            false,
		`{"group": "orders-1", "type": "_t"}`:                           false,
		`{"group": "orders-1", "type": "internal.message"}`:             false,
		`{"group": "orders-1", "type": "t", "text": ""}`:                false,
		`{"group": "orders-1", "text": "", "data": {}}`:                 false,
		`{"group": "orders-1", "type": "t", "data": []}`:                false,
		`{"group": "orders-1", "type": "t", "id": "a b"}`:               false,
		`{"group": "orders-1", "type": "t", "sender": "x"}`:             false,
		`{"messages": []}`:                                              false,
		`[]`:                                                            false,
	} {
		r, err := http.NewRequest("POST", url+endpointPath, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+testSecret)
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		described := c.Accepts("POST", endpointPath, body)
		if (resp.StatusCode == 200) != valid || (described == nil) != valid {
			t.Errorf("%s: answered %d, described as %v; want it to be valid: %v", body, resp.StatusCode, described, valid)
		}
	}
}
