package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

const (
	tripWait = 5 * time.Second
	tripSlow = 100 * time.Millisecond
	trips    = 5
)

// RoundTrip publishes events to a group that nobody else has, through the hub's channel layer, and waits for them on a real websocket
// of this hub, over the loopback interface. It passes by Caddy's sites and by logins.
func RoundTrip(ctx context.Context, hub *hub.Hub) Finding {
	const check = "round trip"
	ctx, cancel := context.WithTimeout(ctx, tripWait)
	defer cancel()
	took, err := roundTrip(ctx, hub)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fail(check, "see what else is wrong; the relay's log says more", "an event did not come back within %v", tripWait)
	case err != nil:
		return fail(check, "see what else is wrong; the relay's log says more", "an event did not come back: %v", err)
	case took > tripSlow:
		return warn(check, "is Redis far away or busy, or this machine?", "an event takes %v through the channel layer to a websocket and back", took.Round(100*time.Microsecond))
	}
	return ok(check, "an event takes %v through the channel layer to a websocket and back", took.Round(10*time.Microsecond))
}

func roundTrip(ctx context.Context, hub *hub.Hub) (time.Duration, error) {
	group := "edgerelay_doctor-" + rand.Text()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	poller := netpoll.New()
	defer poller.Close()
	subscribed := make(chan error, 1)
	server := &http.Server{ReadHeaderTimeout: tripWait, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subscribed <- accept(ctx, hub, poller, w, r, group)
	})}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()

	client, _, err := websocket.Dial(ctx, "ws://"+listener.Addr().String(), nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = client.CloseNow() }()
	select {
	case err = <-subscribed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return 0, err
	}
	var times []time.Duration
	for i := range trips {
		text := fmt.Sprintf(`{"edgerelay_doctor": %d}`, i)
		began := time.Now()
		receipt, err := hub.Publish(ctx, group, []byte(text))
		if err != nil {
			return 0, err
		}
		if receipt.Members == 0 {
			return 0, errors.New("this relay is not a member of the group that it has just joined: another prefix, or somebody deletes memberships")
		}
		if receipt.OverCapacity > 0 {
			return 0, errors.New("this relay's key in the channel layer is full")
		}
		_, got, err := client.Read(ctx)
		if err != nil {
			return 0, err
		}
		if string(got) != text {
			return 0, fmt.Errorf("another text came back: %.100q (does a plugin change every group?)", got)
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// accept makes a session of the client and subscribes it.
func accept(
	ctx context.Context, hub *hub.Hub, poller *netpoll.Poller, w http.ResponseWriter, r *http.Request, group string,
) error {
	room, err := hub.Admit(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return err
	}
	err = room.Identify(relay.Identity{ID: `"doctor"`, Name: "doctor", Credentials: relay.OwnSession{}})
	if err != nil {
		room.Release()
		return err
	}
	conn, err := ws.Accept(w, r, ws.Options{Poller: poller, MessageLimit: func() int { return 1024 }})
	if err != nil {
		room.Release()
		return err
	}
	session := room.Open(conn)
	conn.Attend(silent{session})
	_, joined := session.Subscribe(ctx, relay.Groups(group))
	return joined
}

// silent answers no message.
type silent struct{ session *hub.Session }

func (silent) Message(bool, []byte) {}

func (s silent) Ended() { s.session.Close() }
