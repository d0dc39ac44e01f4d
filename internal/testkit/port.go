package testkit

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports are handed out from blocks. A process owns a block while it listens on the block's first port, so that no two
// test processes hand out the same port: go test runs packages side by side.
const (
	firstPort   = 12000
	portBlocks  = 400
	blockLength = 50
)

var (
	portsMu   sync.Mutex
	portOwner []net.Listener // of the blocks of this process; they are held until it ends
	portsLeft []int          // of the newest block
)

// FreePort returns a TCP port of 127.0.0.1 without a listener. No two calls return the same port, in this process and
// in others that run at the same time. The port is below the range of outgoing connections, so that a server can
// restart on the port while thousands of clients hold sockets.
func FreePort(t testing.TB) int {
	t.Helper()
	portsMu.Lock()
	defer portsMu.Unlock()
	for {
		for len(portsLeft) > 0 {
			port := portsLeft[0]
			portsLeft = portsLeft[1:]
			l, err := net.Listen("tcp4", Loopback(port))
			if err != nil {
				continue // a stranger's
			}
			l.Close()
			return port
		}
		if !ownBlock() {
			t.Fatalf("no free TCP port between %d and %d on 127.0.0.1", firstPort, firstPort+portBlocks*blockLength)
		}
	}
}

// ownBlock takes a block that no process owns. It reports whether there is one. portsMu is held.
func ownBlock() bool {
	for _, block := range rand.Perm(portBlocks) {
		first := firstPort + block*blockLength
		l, err := net.Listen("tcp4", Loopback(first))
		if err != nil {
			continue
		}
		portOwner = append(portOwner, l)
		for port := first + 1; port < first+blockLength; port++ {
			portsLeft = append(portsLeft, port)
		}
		return true
	}
	return false
}

func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
