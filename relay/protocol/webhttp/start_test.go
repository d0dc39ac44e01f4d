package webhttp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// layer is a channel layer whose joins call a function and then wait until their time is over.
type layer struct {
	relay.Broker
	joins func()
}

func (l layer) Join(ctx context.Context, _ ...string) error {
	l.joins()
	<-ctx.Done()
	return ctx.Err()
}

// startSlowly starts a connection whose context ends during the wait for the channel layer. It returns the end of the
// connection.
func startSlowly(t *testing.T, e *edge) (end func()) {
	t.Helper()
	joining, cancel := context.WithCancel(t.Context())
	if err := e.hub.SetBroker(t.Context(), layer{memory.NewLayer().Broker(), cancel}); err != nil {
		t.Fatal(err)
	}
	o, rejected := e.Open(httptest.NewRequest(http.MethodGet, "/", nil), webhttp.Client{Scheme: "http"})
	if rejected != nil {
		t.Fatal(rejected.Err)
	}
	conn := o.Conn(channels.NewSocket(false))
	o.Start(joining, e.hub.Open(conn, relay.Identity{}, netip.Addr{}), []relay.Subscription{{Group: "granted"}})
	return conn.Ended
}

// A wait for the channel layer until the time is over does not end the subscriptions before it, and does not deny those
// behind it.
func TestSubscriptionsBehindALongWait(t *testing.T) {
	site := startSite(t, opens("TEXT 2A\r\n"+`c:{"type": "subscribe", "channel": "room"}`+"\r\n", echo))
	e := startEdge(t, site.URL, func(s *webhttp.Settings, _ *relay.Limits) {
		grant := s.Grant
		s.Grant = func(ctx context.Context, id relay.Identity, group string) (relay.Subscription, error) {
			if err := ctx.Err(); err != nil { // as with a plugin that has on_subscribe
				return relay.Subscription{}, err
			}
			return grant(ctx, id, group)
		}
	})
	defer startSlowly(t, e)()
	page, _ := e.hub.Sessions(hub.SessionFilter{}, 0, 1)
	if want := []string{"granted", "grip.room"}; !slices.Equal(page[0].Groups, want) {
		t.Errorf("subscriptions %q, want %q\n%s", page[0].Groups, want, e.log)
	}
}

// A client that leaves during its handshake is not logged as a delay of the channel layer.
func TestClientThatLeavesDuringTheHandshake(t *testing.T) {
	site := startSite(t, opens("", echo))
	e := startEdge(t, site.URL, nil)
	defer startSlowly(t, e)()
	if log := e.log.String(); strings.Contains(log, "delayed") {
		t.Error(log)
	}
}
