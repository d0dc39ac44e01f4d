package wire

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"go.uber.org/goleak"
)

// device is a port of a test: it reads the frames that the test sends, and keeps those written.
type device struct {
	in, out chan []byte
	once    sync.Once
	done    chan struct{}
}

func newDevice() *device {
	return &device{in: make(chan []byte), out: make(chan []byte, 100), done: make(chan struct{})}
}

func (d *device) Read(b []byte) (int, error) {
	select {
	case frame := <-d.in:
		return copy(b, frame), nil
	case <-d.done:
		return 0, io.EOF
	}
}

func (d *device) Write(b []byte) (int, error) {
	d.out <- b
	return len(b), nil
}

func (d *device) Close() error {
	d.once.Do(func() { close(d.done) })
	return nil
}

// frame returns an IPv4 frame between addresses whose last byte is given; 255 is the broadcast address.
func frame(from, to byte, length int) []byte {
	f := make([]byte, length)
	copy(f, []byte{2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0})
	if to == 255 {
		copy(f, []byte{255, 255, 255, 255, 255})
	}
	return f
}

func (d *device) expect(t *testing.T, from byte) {
	t.Helper()
	select {
	case f := <-d.out:
		if f[11] != from {
			t.Fatalf("a frame of %d, want one of %d", f[11], from)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("no frame of %d", from)
	}
}

func TestSwitchForwardsByAddressAndRule(t *testing.T) {
	defer goleak.VerifyNone(t)
	s := NewSwitch(1)
	defer s.Close()
	a, b, c := newDevice(), newDevice(), newDevice()
	for name, d := range map[string]*device{"a": a, "b": b, "c": c} {
		if err := s.Attach(name, d); err != nil {
			t.Fatal(err)
		}
	}
	a.in <- frame(1, 255, 60)
	b.expect(t, 1)
	c.expect(t, 1)
	b.in <- frame(2, 1, 60) // the address of a is known, so c gets nothing
	a.expect(t, 2)
	a.in <- frame(1, 2, 60)
	b.expect(t, 1)
	if len(c.out) > 0 {
		t.Error("a frame for another port")
	}

	s.Set("a", Any, Rule{Down: true})
	a.in <- frame(1, 2, 60)
	testkit.Eventually(t, "the dropped frame", func() bool { return s.Counts("a", "b").Dropped == 1 })
	b.in <- frame(2, 1, 60)
	a.expect(t, 2)
	s.Set("a", Any, Rule{})
	s.Set("a", "b", Rule{MTU: 1400})
	a.in <- frame(1, 2, 1415) // an IP packet of 1,401 bytes
	a.in <- frame(1, 2, 1414)
	b.expect(t, 1)
	if got, want := s.Counts("a", "b"), (Counts{Delivered: 3, Dropped: 2}); got != want {
		t.Errorf("a to b: %+v, want %+v", got, want)
	}
}

// A rule does not hinder address resolution.
func TestAddressResolutionPasses(t *testing.T) {
	arp := frame(1, 255, 42)
	arp[12], arp[13] = 8, 6
	solicitation := frame(1, 2, 86)
	solicitation[12], solicitation[13] = 0x86, 0xdd
	solicitation[20], solicitation[54] = 58, 135
	for name, f := range map[string][]byte{"ARP": arp, "neighbor discovery": solicitation} {
		if !resolvesAddresses(f) {
			t.Errorf("%s is not recognized", name)
		}
	}
	if resolvesAddresses(frame(1, 2, 1400)) {
		t.Error("IPv4 is taken for address resolution")
	}
}

func TestAClosedSwitchTakesNoPort(t *testing.T) {
	s := NewSwitch(1)
	s.Close()
	if err := s.Attach("a", newDevice()); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
