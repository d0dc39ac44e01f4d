package testkit

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

var (
	portsMu sync.Mutex
	ports   = map[int]bool{}
)

// FreePort returns a TCP port of 127.0.0.1 without a listener. No two calls in a process return the same port. The port
// is below the range of outgoing connections, so that a server can restart on the port while thousands of clients hold
// sockets.
func FreePort(t testing.TB) int {
	t.Helper()
	portsMu.Lock()
	defer portsMu.Unlock()
	for range 200 {
		port := 12000 + rand.IntN(20000)
		if ports[port] {
			continue
		}
		l, err := net.Listen("tcp4", Loopback(port))
		if err != nil {
			continue
		}
		l.Close()
		ports[port] = true
		return port
	}
	t.Fatal("no free TCP port between 12000 and 32000 on 127.0.0.1")
	return 0
}

func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
