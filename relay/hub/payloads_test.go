package hub_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// individual is a format that leaves events of the type "each" to the clients' sockets.
type individual struct{ prefixed }

func (f *individual) AppendEvent(dst []byte, ev *relay.Event, text []byte) ([]byte, relay.Frame) {
	if ev.Type == "each" {
		return append(dst, text...), relay.ClientFrame
	}
	return f.prefixed.AppendEvent(dst, ev, text)
}

// receiver is a socket that sends payloads with its own name.
type receiver struct {
	*socket
	name string
}

func (r *receiver) Receive(payload []byte, limit int) bool {
	return r.Send(relay.AppendFrame(nil, fmt.Appendf(nil, "%s got %s", r.name, payload)), limit)
}

// Payloads reach each socket that handles them, in the order of all events of a batch. The sender, and sockets without
// a handler, get none.
func TestPayloadsForSockets(t *testing.T) {
	h, _ := newHub(t)
	f := &individual{prefixed{name: "f"}}
	connect := func(s relay.Socket) *hub.Session {
		t.Helper()
		reservation, err := h.Admit(netip.Addr{})
		if err == nil {
			err = reservation.Identify(relay.Identity{ID: "1", Key: "1"})
		}
		if err != nil {
			t.Fatal(err)
		}
		return reservation.OpenAs(s, f)
	}
	a, b, without := &receiver{newSocket(), "a"}, &receiver{newSocket(), "b"}, newSocket()
	first := connect(a)
	subscribe(t, h, first, "g", "h")
	subscribe(t, h, connect(b), "g")
	subscribe(t, h, connect(without), "g")
	h.Deliver([]relay.Event{
		{Group: "g", Type: "t", Text: []byte("1")},
		{Group: "g", Type: "each", Text: []byte("2")},
		{Group: "h", Type: "t", Text: []byte("3")},
		{Group: "g", Type: "each", Text: []byte("4"), Sender: first.Sender()},
		{Group: "g", Type: "t", Text: []byte("5")},
	})
	expectTexts(t, a.socket, "f g t 1", "a got 2", "f h t 3", "f g t 5")
	expectTexts(t, b.socket, "f g t 1", "b got 2", "b got 4", "f g t 5")
	expectTexts(t, without, "f g t 1", "f g t 5")
	if text := strings.Join(a.got(), " "); strings.Contains(text, "got 4") {
		t.Errorf("the sender got its own payload: %s", text)
	}
}
