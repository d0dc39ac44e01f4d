package ws_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// Twenty clients read nothing while ten megabytes are sent to each. Their queues and the memory of the queues stay
// below the limit, and each client is disconnected.
func TestSlowConsumersStayBelowTheLimit(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			s := newServer(t, secure)
			const readers, limit, piece = 20, 256 << 10, 16 << 10
			go func() {
				for range readers {
					<-s.ended
				}
			}()
			sockets := make([]*ws.Conn, readers)
			for i := range sockets {
				_, sockets[i] = s.dial(t)
			}
			before := heapInUse()
			var closed [readers]bool
			for range 10 << 20 / piece {
				for i, socket := range sockets {
					// A new buffer for each client is the most expensive case: nothing is shared.
					if !closed[i] && !socket.SendAnswer(relay.AppendFrame(nil, make([]byte, piece)), limit) {
						closed[i] = true
					}
					if waiting, _ := socket.Waiting(); waiting > limit+2*piece { // with those that are being written
						t.Fatalf("%d bytes are queued, the limit is %d", waiting, limit)
					}
				}
			}
			for i := range closed {
				if !closed[i] {
					t.Errorf("client %d is not disconnected", i)
				}
			}
			// After the close only the frame that is written in part remains.
			if grown := heapInUse() - before; grown > readers*limit {
				t.Errorf("the heap grew by %d KiB for %d disconnected clients", grown>>10, readers)
			}
		})
	}
}

// A small queued frame does not keep the large buffer in which other frames were encoded.
func TestSmallFramesAreCopied(t *testing.T) {
	s := newServer(t, false)
	_, socket := s.dial(t)
	for i := 0; ; i++ { // until the socket is full
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
		t.Fatalf("only %d bytes are queued", waiting)
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
