package backplane

import (
	"context"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"
)

// fullListener returns a listener whose queue is full, so that the kernel drops the first packet of a connection. The
// returned function empties the queue.
func fullListener(t *testing.T) (l net.Listener, empty func()) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer func() { _ = file.Close() }()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	if l, err = net.FileListener(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	filled := 0
	for {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = c.Close() })
		filled++
	}
	return l, func() {
		for range filled {
			if c, err := l.Accept(); err == nil {
				_ = c.Close()
			}
		}
	}
}

// The network was down for a moment: a link has stalled, and the next connection is made, but not with its first
// packet. So another short outage does not speak against the size of packets. A connection that was made at once leaves
// the suspicion.
func TestAConnectionThatTookTwoPacketsClearsTheSize(t *testing.T) {
	for name, down := range map[string]bool{"at once": false, "with the second packet": true} {
		t.Run(name, func(t *testing.T) {
			b := newPlane(t)
			var l net.Listener
			var err error
			empty := func() {}
			if down {
				l, empty = fullListener(t)
			} else if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: http.NotFoundHandler()}
			defer func() { _ = server.Close() }()
			time.AfterFunc(500*time.Millisecond, func() { // the first packet is lost, and the second one follows after a second
				empty()
				_ = server.Serve(l)
			})
			d := newDialer(b, Target{URL: "http://" + l.Addr().String()}, func() {})
			d.segments.stalled(time.Minute, time.Second)
			if err := d.dial(context.Background(), Broadcast, true); err == nil {
				t.Fatal("a link to a server without relay")
			}
			lowered := d.segments.stalled(time.Second, time.Minute)
			if lowered == down {
				t.Errorf("another stall makes packets smaller: %v", lowered)
			}
		})
	}
}
