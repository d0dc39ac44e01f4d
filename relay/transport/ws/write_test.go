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

// A small frame that waits does not keep the large buffer that it was encoded in with others.
func TestSmallFramesWaitAlone(t *testing.T) {
	s := newServer(t, false)
	_, socket := s.dial(t)
	for i := 0; ; i++ { // until it is full
		if waiting, _ := socket.Waiting(); waiting > 0 {
			break
		}
		socket.Send(relay.AppendFrame(nil, make([]byte, 60_000)), 1<<20)
	}
	const frames = 500
	before := heapInUse()
	for range frames {
		buffer := make([]byte, 0, 64<<10)
		buffer = relay.AppendFrame(buffer, make([]byte, 300))
		if !socket.Send(buffer[:len(buffer):len(buffer)], 1<<20) {
			t.Fatal("refused")
		}
	}
	if waiting, _ := socket.Waiting(); waiting < 300*frames {
		t.Fatalf("only %d bytes wait", waiting)
	}
	if grown := heapInUse() - before; grown > frames*2000 {
		t.Errorf("%d frames of 300 bytes keep %d KiB", frames, grown>>10)
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
