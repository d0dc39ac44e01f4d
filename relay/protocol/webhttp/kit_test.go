package webhttp_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
	"github.com/edgerelay/edgerelay/relay/transport/sse"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const soon = 10 * time.Second

// edge is a relay whose only route hands all messages to a backend.
type edge struct {
	*webhttp.Backend
	hub *hub.Hub
	url string
	log *testkit.Buffer
	// Of held responses: the site's address, a client for requests, and a function that is called, unless nil, between the
	// site's answer and the subscription.
	site       string
	client     *http.Client
	beforeJoin func()
}

// startEdge starts a relay in front of a backend's address.
func startEdge(t testing.TB, backend string, edit func(*webhttp.Settings, *relay.Limits)) *edge {
	t.Helper()
	log := &testkit.Buffer{}
	e := &edge{hub: hub.New(slog.New(slog.NewTextHandler(log, nil))), log: log}
	limits := relay.DefaultLimits()
	address, err := url.Parse(backend)
	if err != nil {
		t.Fatal(err)
	}
	s := webhttp.Settings{URL: address, Grant: e.hub.Grant, Log: slog.New(slog.NewTextHandler(log, nil))}
	if edit != nil {
		edit(&s, &limits)
	}
	e.hub.SetLimits(limits)
	e.hub.SetAuthorizer(relay.Open{}, 0)
	e.hub.ReceiveMessages(true)
	if err := e.hub.SetBroker(context.Background(), memory.NewLayer().Broker()); err != nil {
		t.Fatal(err)
	}
	if e.Backend, err = webhttp.NewBackend(s, webhttp.NewFormat(nil)); err != nil {
		t.Fatal(err)
	}
	poller := netpoll.New()
	streams := sse.NewServer(poller)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ws.IsUpgrade(r) {
			e.serveHTTP(w, r, streams)
			return
		}
		e.serve(w, r, poller)
	}))
	e.url, e.site, e.client = server.URL, backend, &http.Client{Transport: &http.Transport{}}
	t.Cleanup(e.client.CloseIdleConnections)
	t.Cleanup(func() {
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := e.hub.Close(ctx); err != nil {
			t.Error(err)
		}
		poller.Close()
		testkit.Eventually(t, "all connections end", func() bool { return e.Stats.Connections.Load() == 0 })
		if err := e.Close(ctx); err != nil {
			t.Error("the backend was not told of all ends:", err)
		}
		if closer, ok := s.Transport.(interface{ CloseIdleConnections() }); ok {
			closer.CloseIdleConnections()
		}
	})
	return e
}

// serve is the handler of a relay, in the order of the real one.
func (e *edge) serve(w http.ResponseWriter, r *http.Request, poller *netpoll.Poller) {
	reservation, err := e.hub.Admit(netip.MustParseAddr("127.0.0.1"))
	if err == nil {
		err = reservation.Identify(relay.Identity{ID: "1", Key: r.URL.Query().Get("user")})
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	opening, rejection := e.Open(r, webhttp.Client{Address: "127.0.0.1", Scheme: "http"})
	if rejection != nil {
		reservation.Release()
		for name, values := range rejection.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(rejection.Status)
		_, _ = w.Write(rejection.Body)
		return
	}
	o := ws.Options{Poller: poller, MessageLimit: func() int { return 1 << 20 }}
	if opening.Subprotocol != "" {
		o.Subprotocols = []string{opening.Subprotocol}
	}
	for name, values := range opening.Header {
		w.Header()[name] = values
	}
	socket, err := ws.Accept(w, r, o)
	if err != nil {
		reservation.Release()
		opening.Abandon()
		return
	}
	conn := opening.Conn(socket)
	opening.Start(context.Background(), reservation.OpenAs(conn, e.Format()), nil)
	socket.Attend(conn)
}

// dial opens a WebSocket.
func (e *edge) dial(t testing.TB, path string, headers ...string) *wstest.Client {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Add(headers[i], headers[i+1])
	}
	c, resp, err := wstest.Dial(t, e.url+path, h)
	if err != nil {
		body := ""
		if resp != nil {
			b, _ := io.ReadAll(resp.Body)
			body = string(b)
		}
		t.Fatalf("%s: %v %s\n%s", path, err, body, e.log.String())
	}
	return c
}

// request is a request that the backend got.
type request struct {
	*http.Request
	body string
	at   time.Time
}

// site is a backend. Its answer function decides about each request; the requests are recorded.
type site struct {
	*httptest.Server
	answer func(w http.ResponseWriter, r *request)

	mu       sync.Mutex // guards the fields below
	requests []*request
	active   map[string]int // by Connection-Id
	overlap  bool           // two requests of one connection at a time
}

// startSite starts a backend.
func startSite(t testing.TB, answer func(w http.ResponseWriter, r *request)) *site {
	t.Helper()
	s := &site{answer: answer, active: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		id, q := r.Header.Get("Connection-Id"), &request{r, string(body), time.Now()}
		s.mu.Lock()
		s.requests = append(s.requests, q)
		s.active[id]++
		s.overlap = s.overlap || s.active[id] > 1
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.active[id]--
		}()
		w.Header().Set("Content-Type", webhttp.ContentType)
		s.answer(w, q)
	}))
	t.Cleanup(s.Server.Close)
	return s
}

// bodies returns the bodies of the requests so far.
func (s *site) bodies() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		list = append(list, r.body)
	}
	return list
}

// last returns the last request.
func (s *site) last() *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[len(s.requests)-1]
}

// overlapped reports whether two requests of one connection were in progress at a time.
func (s *site) overlapped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.overlap
}

// echo accepts with the extension grip and returns each event of the client.
func echo(w http.ResponseWriter, r *request) {
	if rest, ok := strings.CutPrefix(r.body, "OPEN\r\n"); ok {
		w.Header().Set("Sec-WebSocket-Extensions", `grip; message-prefix=""`)
		_, _ = io.WriteString(w, "OPEN\r\n"+rest)
		return
	}
	_, _ = io.WriteString(w, strings.ReplaceAll(r.body, "DISCONNECT\r\n", ""))
}

// opens answers OPEN with events behind OPEN, and later requests by answer.
func opens(events string, answer func(w http.ResponseWriter, r *request)) func(http.ResponseWriter, *request) {
	return func(w http.ResponseWriter, r *request) {
		if strings.HasPrefix(r.body, "OPEN\r\n") {
			w.Header().Set("Sec-WebSocket-Extensions", `grip; message-prefix=""`)
			_, _ = io.WriteString(w, "OPEN\r\n"+events)
			return
		}
		answer(w, r)
	}
}

// expect waits for frames.
func expect(t testing.TB, c *wstest.Client, want ...string) {
	t.Helper()
	for _, w := range want {
		got, err := c.Next(soon)
		if err != nil || got != w {
			t.Fatalf("frame %.200q, %v; want %.200q", got, err, w)
		}
	}
}

// expectClose waits for the close frame.
func expectClose(t testing.TB, c *wstest.Client, code int) {
	t.Helper()
	for {
		if frame, err := c.Next(soon); err != nil {
			if got := wstest.CloseCode(err); got != code {
				t.Fatalf("close code %d (%v), want %d", got, err, code)
			}
			return
		} else {
			t.Logf("frame %.100q before the close", frame)
		}
	}
}

func send(t testing.TB, c *wstest.Client, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err := c.Send(text); err != nil {
			t.Fatal(err)
		}
	}
}

// publish publishes an item.
func (e *edge) publish(t testing.TB, item string) {
	t.Helper()
	items, err := webhttp.ParsePublish([]byte(`{"items": [` + item + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	m, err := items[0].Message()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.hub.PublishMessage(context.Background(), m); err != nil {
		t.Fatal(err)
	}
}
