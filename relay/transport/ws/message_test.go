package ws

import (
	"bytes"
	"errors"
	"testing"

	"github.com/klauspost/compress/flate"

	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
)

// A client may send a number of messages a second that are much longer than their payloads, or a few that are very
// long.
func TestExpansionIsLimited(t *testing.T) {
	for _, c := range []struct {
		name                string
		length, least, most int
	}{
		{"not much longer", 40, 10_000, 10_000},
		{"longer", 17 << 10, 700, 900},
		{"very long", 16 << 20, 2, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var payload bytes.Buffer
			if err := flate.StatelessDeflate(&payload, make([]byte, c.length), true, nil); err != nil {
				t.Fatal(err)
			}
			conn := &Conn{limit: func() int { return 32 << 20 }, deflates: true}
			netpoll.New().Attach(conn.IO(), &tape{}, conn)
			conn.Touch() // once: all messages arrive in the same second
			r := reader{c: conn}
			n := 0
			for ; n < c.most; n++ {
				m := incoming{bytes: payload.Bytes(), compressed: true}
				if err := r.inflateMessage(&m); errors.Is(err, errExpansion) {
					break
				} else if err != nil || len(m.bytes) != c.length {
					t.Fatalf("message %d: %d bytes, %v", n, len(m.bytes), err)
				}
			}
			if n < c.least {
				t.Errorf("%d messages are accepted, want at least %d", n, c.least)
			}
			m := incoming{bytes: payload.Bytes(), compressed: true}
			if err := r.inflateMessage(&m); n < 10_000 && !errors.Is(err, errExpansion) {
				t.Errorf("message %d: %v, want %v", n, err, errExpansion)
			}
		})
	}
}

// The memory of a message in many fragments is not copied for each of them.
func TestFragmentsAreNotCopiedAgainAndAgain(t *testing.T) {
	const fragments, size = 4000, 16
	var stream []byte
	for i := range fragments {
		first := byte(opContinuation)
		switch i {
		case 0:
			first = opBinary
		case fragments - 1:
			first = finBit
		}
		stream = append(stream, first, maskBit|size, 0, 0, 0, 0)
		stream = append(stream, make([]byte, size)...)
	}
	var received int
	allocations := testing.AllocsPerRun(1, func() {
		c := &Conn{limit: func() int { return fragments * size }, handler: length{&received}}
		netpoll.New().Attach(c.IO(), &tape{in: stream, piece: 4096}, c)
		c.Touch()
		r := reader{c: c, in: make([]byte, 4096)}
		for r.readFrame() == nil {
		}
	})
	if received != fragments*size || allocations > 200 {
		t.Errorf("a message of %d bytes takes %v allocations", received, allocations)
	}
}

// length is a Handler that records the length of the last message.
type length struct{ n *int }

func (l length) Message(_ bool, message []byte) { *l.n = len(message) }

func (length) Ended() {}
