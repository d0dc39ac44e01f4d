package ws_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

// Twenty clients that read nothing while ten megabytes are sent to each: what waits for them, and the memory that it takes, stay below the
// setting, and each of them is given up.
func TestSlowReadersHoldNoMoreThanTheSetting(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			s := newServer(t, secure)
			const readers, limit, piece = 20, 256 << 10, 16 << 10
			go func() { // what they end with is of no interest
				for range readers {
					<-s.ended
				}
			}()
			sockets := make([]relay.Socket, readers)
			for i := range sockets {
				_, sockets[i] = s.dial(t)
			}
			before := heapInUse()
			var given [readers]bool
			for range 10 << 20 / piece {
				for i, socket := range sockets {
					// A buffer of its own for each: nothing is shared, the dearest case.
					if !given[i] && !socket.Send(relay.AppendFrame(nil, make([]byte, piece)), limit) {
						given[i] = true
					}
					if waiting, _ := socket.Waiting(); waiting > limit+piece+64 {
						t.Fatalf("%d bytes wait, the setting is %d", waiting, limit)
					}
				}
			}
			for i := range given {
				if !given[i] {
					t.Errorf("reader %d is not given up", i)
				}
			}
			// Given up, they hold the frame that is half written and no more.
			if grown := heapInUse() - before; grown > readers*limit {
				t.Errorf("the heap grew by %d KiB for %d readers that are given up", grown>>10, readers)
			}
		})
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
