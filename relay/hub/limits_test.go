package hub_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

func TestAddressKey(t *testing.T) {
	for _, c := range []struct {
		name, address string
		prefix        int
		want          string
	}{
		{"IPv4", "192.0.2.1", 64, "192.0.2.1"},
		{"IPv4 in IPv6", "::ffff:192.0.2.1", 64, "192.0.2.1"},
		{"IPv4 behind a translator", "64:ff9b::192.0.2.1", 64, "192.0.2.1"},
		{"IPv6", "2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::"},
		{"IPv6 by /56", "2001:db8:1:2ff:3:4:5:6", 56, "2001:db8:1:200::"},
		{"IPv6 by /128", "2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6"},
		{"with a zone", "fe80::1%eth0", 128, "fe80::1"},
		{"no prefix", "2001:db8::1", 0, "2001:db8::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := relay.AddressKey(netip.MustParseAddr(c.address), c.prefix); got.String() != c.want {
				t.Errorf("%s by /%d: got %v, want %s", c.address, c.prefix, got, c.want)
			}
		})
	}
	if got := relay.AddressKey(netip.Addr{}, 64); got.IsValid() {
		t.Errorf("an unknown address is counted as %v", got)
	}
}

// A reservation is released with the prefix that it was counted by, even if the limit has changed.
func TestReservationKeepsItsPrefix(t *testing.T) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.ConnectionsPerAddress = 1
	h.SetLimits(limits)
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	room, err := h.Admit(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := room.Identify(relay.Identity{}); err != nil {
		t.Fatal(err)
	}
	session := room.Open(newSocket())
	room.Release() // the session has the reservation
	if _, err := h.Admit(b); !errors.Is(err, hub.ErrTooManyFromAddress) {
		t.Errorf("a second connection of the /64: %v", err)
	}
	limits.IPv6Prefix = 128
	h.SetLimits(limits)
	session.Close()
	limits.IPv6Prefix = 64
	h.SetLimits(limits)
	if _, err := h.Admit(b); err != nil {
		t.Errorf("after the first has closed: %v", err)
	}
}

func TestPendingHandshakesAreLimited(t *testing.T) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.PendingPerAddress = 2
	h.SetLimits(limits)
	address := netip.MustParseAddr("192.0.2.1")
	var rooms []*hub.Reservation
	admit := func() error {
		room, err := h.Admit(address)
		if err == nil {
			rooms = append(rooms, room)
		}
		return err
	}
	for i, want := range []error{nil, nil, hub.ErrTooManyPending} {
		if err := admit(); !errors.Is(err, want) {
			t.Errorf("handshake %d: got %v, want %v", i, err, want)
		}
	}
	if _, err := h.Admit(netip.MustParseAddr("192.0.2.2")); err != nil {
		t.Errorf("another address: %v", err)
	}
	rooms[0].EndHandshake()
	rooms[0].EndHandshake()
	for i, want := range []error{nil, hub.ErrTooManyPending} {
		if err := admit(); !errors.Is(err, want) {
			t.Errorf("after a handshake has ended, handshake %d: got %v, want %v", i, err, want)
		}
	}
	rooms[1].Release()
	rooms[1].Release()
	for i, want := range []error{nil, hub.ErrTooManyPending} {
		if err := admit(); !errors.Is(err, want) {
			t.Errorf("after a release, handshake %d: got %v, want %v", i, err, want)
		}
	}
	if n := h.Stats().Rejected; n != 0 {
		t.Errorf("%d rejections counted, want 0: pending handshakes have a count of their own", n)
	}
}

// Clients with an unknown address are not counted as a single client.
func TestUnknownAddressesAreNotCounted(t *testing.T) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.ConnectionsPerAddress, limits.PendingPerAddress, limits.Connections = 1, 1, 3
	h.SetLimits(limits)
	for i, want := range []error{nil, nil, nil, hub.ErrTooManyConnections} {
		if _, err := h.Admit(netip.Addr{}); !errors.Is(err, want) {
			t.Errorf("connection %d: got %v, want %v", i, err, want)
		}
	}
	if got := relay.AddressText(netip.Addr{}); got != "unknown" {
		t.Errorf("in logs it is %q", got)
	}
}
