package hub_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// loopback is a channel layer of one node: it delivers what the node publishes.
type loopback struct{ sink relay.Sink }

func (l *loopback) Start(sink relay.Sink) error { l.sink = sink; return nil }

func (l *loopback) Join(context.Context, ...string) error { return nil }

func (l *loopback) Leave(...string) {}

func (l *loopback) Publish(_ context.Context, group string, text []byte) (relay.Receipt, error) {
	l.sink.Deliver([]relay.Event{{Group: group, Text: text, Sent: time.Now()}})
	return relay.Receipt{Members: 1}, nil
}

func (l *loopback) Health() relay.Health { return relay.Health{OK: true, Detail: "loopback"} }

func (l *loopback) Close(context.Context) error { return nil }

// teamAuthorizer takes the user from a header, and allows a team's groups to its members.
type teamAuthorizer struct{ teams map[string]string }

func (a teamAuthorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	name := r.Header.Get("Remote-User")
	if a.teams[name] == "" {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	return relay.Identity{ID: `"` + name + `"`, Key: name, Name: name}, nil
}

func (a teamAuthorizer) Authorize(_ context.Context, id relay.Identity, group string) error {
	if team := a.teams[id.Name]; team == "" || group != "team-"+team {
		return relay.ErrDenied
	}
	return nil
}

func (a teamAuthorizer) Recheck(_ context.Context, id relay.Identity) error {
	if a.teams[id.Name] == "" {
		return relay.ErrUnauthenticated
	}
	return nil
}

// printer is a client's socket that prints the texts of short frames.
type printer struct{ printed chan struct{} }

func (p printer) Send(frames []byte, _ int) bool {
	fmt.Println(string(frames[2:]))
	close(p.printed)
	return true
}

func (p printer) SendCopy(frames []byte, limit int) bool { return p.Send(frames, limit) }

func (printer) Ping() bool { return true }

func (printer) Waiting() (int, bool) { return 0, false }

func (printer) LastRead() time.Time { return time.Now() }

func (printer) Close(int, string) {}

func (printer) Kill() {}

// A minimal channel layer.
func ExampleHub_SetBroker() {
	ctx := context.Background()
	h := hub.New(slog.New(slog.DiscardHandler))
	if err := h.SetBroker(ctx, &loopback{}); err != nil {
		fmt.Println(err)
	}
	socket := printer{make(chan struct{})}
	session := h.Open(socket, relay.Identity{ID: "1"}, netip.Addr{})
	if _, err := session.Subscribe(ctx, relay.Groups("team-red")); err != nil {
		fmt.Println(err)
	}
	if _, err := h.Publish(ctx, "team-red", []byte(`{"score": 1}`)); err != nil {
		fmt.Println(err)
	}
	<-socket.printed
	session.Close()
	if err := h.Close(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: {"score": 1}
}

// A minimal authorizer, and the steps of a connection.
func ExampleHub_SetAuthorizer() {
	ctx := context.Background()
	h := hub.New(slog.New(slog.DiscardHandler))
	h.SetAuthorizer(teamAuthorizer{map[string]string{"ann": "red"}}, time.Minute)

	reservation, err := h.Admit(netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reservation.Release() // has no effect after Open
	r := &http.Request{Header: http.Header{"Remote-User": {"ann"}}}
	id, err := h.Authorizer().Authenticate(r)
	if err == nil {
		err = reservation.Identify(id)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	session := reservation.Open(printer{})
	for _, group := range []string{"team-red", "team-blue"} {
		_, err := session.Authorize(ctx, group, false)
		fmt.Println(session.Identity().Name, group, err)
	}
	session.Close()
	if err := h.Close(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// ann team-red <nil>
	// ann team-blue access denied
}
