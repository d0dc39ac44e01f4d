package node

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// plainLayer is a guest module without the setting resync, resyncLayer one with it.
type plainLayer struct{}

func (plainLayer) Place() string                           { return "test" }
func (plainLayer) Open(*slog.Logger) (relay.Broker, error) { return memory.NewLayer().Broker(), nil }
func (plainLayer) Apply(relay.Broker) error                { return nil }

type resyncLayer struct{ plainLayer }

func (resyncLayer) ResyncText() string { return `{"resync": true}` }

// counter is a socket that counts what it is sent.
type counter struct {
	relay.Socket
	frames atomic.Int64
}

func (c *counter) Send([]byte, int) bool {
	c.frames.Add(1)
	return true
}

func (*counter) Ping() bool { return true }

func (*counter) LastRead() time.Time { return time.Now() }

func (*counter) Waiting() (int, bool) { return 0, false }

// A layer without the setting resync ends the setting of the layer before it.
func TestLayerWithoutResyncTellsClientsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		value, err := newNode()
		if err != nil {
			t.Fatal(err)
		}
		n := value.(*Node)
		defer func() { _ = n.Destruct() }()
		socket := &counter{}
		session := n.Hub.Open(socket, relay.Identity{ID: "1"}, netip.Addr{})
		defer session.Close()
		if _, err := session.Subscribe(t.Context(), []relay.Subscription{{Group: "a-b"}}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			layer guest.ChannelLayer
			told  int64
		}{{resyncLayer{}, 1}, {plainLayer{}, 1}, {resyncLayer{}, 2}} {
			config := &Config{
				Layer: c.layer, Authorizer: n.Hub.Authorizer(), Limits: relay.DefaultLimits(),
				Log: slog.New(slog.DiscardHandler),
			}
			if err := n.Attach(config); err != nil {
				t.Fatal(err)
			}
			n.Hub.Lost(relay.Loss{Cause: relay.LossPluginWithheld, Groups: []string{"a-b"}, Events: 1})
			time.Sleep(5 * time.Second) // of the bubble's clock
			if got := socket.frames.Load(); got != c.told {
				t.Errorf("%T: the client was told %d times, want %d", c.layer, got, c.told)
			}
		}
	})
}
