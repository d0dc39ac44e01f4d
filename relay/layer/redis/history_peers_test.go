package redis_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// site is a node with a backplane.
type site struct {
	t      testing.TB
	hub    *hub.Hub
	plane  *backplane.Backplane
	server *httptest.Server
}

// startSite returns a node on a layer that listens on an address and dials peers.
func startSite(t testing.TB, b relay.Broker, history relay.History, address string, urls ...string) *site {
	t.Helper()
	s := &site{t: t, hub: hub.New(quiet)}
	if err := s.hub.SetBroker(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if history != nil {
		s.hub.SetHistory(history)
	}
	var list backplane.Static
	for _, url := range urls {
		list = append(list, backplane.Target{URL: url, Dialect: backplane.Auto})
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s.plane, err = backplane.New(s.hub, backplane.Settings{
		Secrets: backplane.Secrets{"a secret of the nodes, long enough"}, Name: listener.Addr().String(),
		Retry: 100 * time.Millisecond, ProbeWait: 300 * time.Millisecond, JoinWait: 5 * time.Second,
		Discoveries: []backplane.Discovery{list},
	}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e, ok := backplane.Endpoint(r.URL.Path); !ok || s.plane.Serve(w, r, e) != 0 {
			http.NotFound(w, r)
		}
	}))
	_ = s.server.Listener.Close()
	s.server.Listener = listener
	s.server.Start()
	s.plane.Start()
	t.Cleanup(s.close)
	return s
}

func (s *site) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = s.plane.Close(ctx)
	s.server.Close()
	_ = s.hub.Close(ctx)
}

// awaitSource waits until the node has the events of a peer.
func (s *site) awaitSource() {
	s.t.Helper()
	testkit.Eventually(s.t, "a source", func() bool {
		return slices.ContainsFunc(s.plane.Peers(), func(p backplane.Peer) bool {
			return p.Source && p.State == backplane.StateConnected
		}) && !s.plane.Incomplete("g")
	})
}

// socket keeps what a client gets.
type socket struct {
	mu    sync.Mutex
	texts []string
}

// client subscribes a client to the group g.
func (s *site) client() *socket {
	s.t.Helper()
	c := &socket{}
	session := s.hub.Open(c, relay.Identity{}, netip.Addr{})
	s.t.Cleanup(session.Close)
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if _, err := session.Subscribe(ctx, relay.Groups("g")); err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (c *socket) Send(frames []byte, _ int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(frames) > 0 { // short ones
		c.texts = append(c.texts, string(frames[2:2+frames[1]]))
		frames = frames[2+frames[1]:]
	}
	return true
}

func (c *socket) SendCopy(frames []byte, limit int) bool { return c.Send(frames, limit) }
func (c *socket) Ping() bool                             { return true }
func (c *socket) LastRead() time.Time                    { return time.Now() }
func (c *socket) Waiting() (int, bool)                   { return 0, false }
func (c *socket) Close(int, string)                      {}
func (c *socket) Kill()                                  {}

func (c *socket) got() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.texts)
}

// unreadable is a history whose reads fail for a while.
type unreadable struct{ relay.History }

func (unreadable) Read(_ context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	pages := make([]relay.HistoryPage, len(queries))
	for i := range pages {
		pages[i].Err = relay.NotRecoveredUnavailable
	}
	return pages
}

// A node is killed after it has sent an event to a peer and before it has dropped the message. Its successor cannot
// read the history for the peer, tells it of a loss, and later adopts the message: the peer's clients do not get the
// event a second time.
func TestAdoptedEventsDoNotTravelToPeers(t *testing.T) {
	server := peers.StartRedis(t)
	publish := publisher(t, server)
	address := testkit.Loopback(testkit.FreePort(t))
	dead := newKeeper(t, settings(server))
	former := startSite(t, dead, dead.history, address)
	near := startSite(t, memory.NewLayer().Broker(), nil, "127.0.0.1:0", "http://"+address)
	c := near.client()
	near.awaitSource()
	channel, inflight := dead.Keys()
	var sent []string
	var taken []any
	for len(taken) == 0 { // a quiet node drops what it has delivered
		sent = append(sent, fmt.Sprintf("<%d>", len(sent)))
		publish("g", sent[len(sent)-1])
		testkit.Eventually(t, "the event", func() bool { return len(c.got()) == len(sent) })
		taken = server.Do("ZRANGE", inflight, 0, -1, "WITHSCORES").([]any)
	}
	dead.Crash()
	former.close()
	message := taken[0].([]any)
	server.Do("ZADD", inflight, message[1], message[0]) // Crash may drop delivered messages; kill -9 does not
	publish("g", "<unread>")
	next := newKeeper(t, settings(server))
	next.SetBeat(100*time.Millisecond, 1500*time.Millisecond, 500*time.Millisecond)
	startSite(t, next, unreadable{next.history}, address)
	near.awaitSource()
	testkit.Eventually(t, "the dead node to be removed", func() bool {
		return server.Do("SISMEMBER", "edgerelay:nodes:asgi", channel[len("asgi"):]) == int64(0)
	})
	publish("g", "<last>")
	testkit.Eventually(t, "the last event", func() bool { return slices.Contains(c.got(), "<last>") })
	if got, want := c.got(), append(sent, "<last>"); !slices.Equal(got, want) {
		t.Errorf("the peer's client got %q, want %q", got, want)
	}
	if losses, _ := near.hub.Losses(); losses[relay.LossPeerLink.String()].Times == 0 {
		t.Error("the peer was not told of a loss")
	}
}
