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
	tripTimeout = 5 * time.Second
	slowTrip    = 100 * time.Millisecond
	// trips is the number of events; the median counts.
	trips = 5
)

// RoundTrip publishes events to a new group through the hub's channel layer, and receives the events on a real
// websocket of this hub, over the loopback interface. Caddy's sites and logins take no part.
func RoundTrip(ctx context.Context, hub *hub.Hub) Finding {
	const check, remedy = "round trip", "correct the other findings, and see the relay's log"
	ctx, cancel := context.WithTimeout(ctx, tripTimeout)
	defer cancel()
	took, err := roundTrip(ctx, hub)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fail(check, remedy, "an event did not come back within %v", tripTimeout)
	case err != nil:
		return fail(check, remedy, "an event did not come back: %v", err)
	case took > slowTrip:
		return warn(check, "move Redis closer, or find the load on Redis and on this machine",
			"an event takes %v through the channel layer to a websocket and back", took.Round(100*time.Microsecond))
	}
	return ok(check, "an event takes %v through the channel layer to a websocket and back",
		took.Round(10*time.Microsecond))
}

// roundTrip returns the median time of an event.
func roundTrip(ctx context.Context, hub *hub.Hub) (time.Duration, error) {
	group := "edgerelay_doctor-" + rand.Text()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	poller := netpoll.New()
	defer poller.Close()
	subscribed := make(chan error, 1)
	handler := func(w http.ResponseWriter, r *http.Request) {
		subscribed <- accept(ctx, hub, poller, w, r, group)
	}
	server := &http.Server{ReadHeaderTimeout: tripTimeout, Handler: http.HandlerFunc(handler)}
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
		took, err := sendEvent(ctx, hub, client, group, fmt.Sprintf(`{"edgerelay_doctor": %d}`, i))
		if err != nil {
			return 0, err
		}
		times = append(times, took)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// sendEvent publishes an event and waits until the client receives the event.
func sendEvent(
	ctx context.Context, hub *hub.Hub, client *websocket.Conn, group, text string,
) (time.Duration, error) {
	began := time.Now()
	receipt, err := hub.Publish(ctx, group, []byte(text))
	if err != nil {
		return 0, err
	}
	if receipt.Members == 0 {
		return 0, errors.New("the new group's membership disappeared: another program deletes the channel layer's keys")
	}
	if receipt.OverCapacity > 0 {
		return 0, errors.New("this relay's mailbox in the channel layer is full")
	}
	_, got, err := client.Read(ctx)
	if err != nil {
		return 0, err
	}
	if string(got) != text {
		return 0, fmt.Errorf("the event came back changed, perhaps by a plugin: %.100q", got)
	}
	return time.Since(began), nil
}

// accept opens a session for the client and subscribes the session.
func accept(
	ctx context.Context, hub *hub.Hub, poller *netpoll.Poller, w http.ResponseWriter, r *http.Request, group string,
) error {
	reservation, err := hub.Admit(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return err
	}
	err = reservation.Identify(relay.Identity{ID: `"doctor"`, Name: "doctor", Credentials: relay.OwnSession{}})
	if err != nil {
		reservation.Release()
		return err
	}
	conn, err := ws.Accept(w, r, ws.Options{Poller: poller, MessageLimit: func() int { return 1024 }})
	if err != nil {
		reservation.Release()
		return err
	}
	session := reservation.Open(conn)
	conn.Attend(silent{session})
	_, joined := session.Subscribe(ctx, relay.Groups(group))
	return joined
}

// silent ignores the messages of a client.
type silent struct{ session *hub.Session }

func (silent) Message(bool, []byte) {}

func (s silent) Ended() { s.session.Close() }
