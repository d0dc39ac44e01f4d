package ws_test

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// overrun sends numbered frames, and tells the client about those that are dropped, as the engine does.
type overrun struct {
	t       *testing.T
	conn    *ws.Conn
	limit   int
	sent    int
	dropped int
	notices int
	// Of the client.
	next, got, told int
	hole            bool // since the last event
	answers         []string
}

func (o *overrun) send(frames int) {
	o.t.Helper()
	for range frames {
		frame := relay.AppendFrame(nil, fmt.Appendf(nil, "%d %s", o.sent, strings.Repeat("z", o.sent*7919%9000)))
		if !o.conn.Send(frame, o.limit) {
			o.makeRoom()
			if !o.conn.Send(frame, o.limit) {
				o.t.Fatalf("frame %d is refused after a drop", o.sent)
			}
		}
		o.sent++
		if waiting, slow := o.conn.Waiting(); waiting > o.limit+64<<10 || slow {
			o.t.Fatalf("%d bytes are queued, slow %v", waiting, slow)
		}
	}
}

func (o *overrun) makeRoom() {
	o.t.Helper()
	d, ok := o.conn.DropEvents(o.limit, time.Minute)
	if !ok {
		o.t.Fatal("the client is closed")
	}
	if o.dropped += d.Events; d.Events > 0 && !d.Told {
		o.conn.SendNotice(relay.AppendFrame(nil, []byte("notice")))
		o.notices++
	}
}

func (o *overrun) answer() {
	o.answers = append(o.answers, fmt.Sprint("answer ", o.sent))
	o.conn.SendAnswer(relay.AppendFrame(nil, []byte(o.answers[len(o.answers)-1])), o.limit)
}

// read reads up to the last frame that was sent.
func (o *overrun) read(c *client) {
	o.t.Helper()
	for o.next < o.sent {
		first, p, err := c.next()
		if err != nil || first != 0x81 {
			o.t.Fatalf("after frame %d: a frame that begins with %#x, %v", o.next-1, first, err)
		}
		word, _, _ := strings.Cut(string(p), " ")
		switch n, err := strconv.Atoi(word); {
		case word == "notice":
			o.hole = true // for the second time if the system had taken the first notice before further events were dropped
			o.told++
		case len(o.answers) > 0 && string(p) == o.answers[0]:
			o.answers = o.answers[1:]
		case err != nil || n < o.next || n > o.next && !o.hole:
			o.t.Fatalf("frame %.20q after %d, notice %v", p, o.next-1, o.hole)
		default:
			o.next, o.hole = n+1, false
			o.got++
		}
	}
}

// A client whose queue is full stays connected. It gets whole frames in order, all answers, a notice at each hole, and
// the newest frames. The queue is bounded meanwhile.
func TestDroppedFrames(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			s := newServer(t, secure)
			c, conn := s.dial(t)
			o := &overrun{t: t, conn: conn, limit: 256 << 10}
			for range 3 { // bursts of nine megabytes, before the client reads
				o.send(1000)
				o.answer()
				o.send(1000)
				o.read(c)
			}
			if o.notices == 0 || o.told != o.notices || len(o.answers) > 0 {
				t.Errorf("%d notices, %d arrived; missing answers: %q", o.notices, o.told, o.answers)
			}
			if o.got+o.dropped != o.sent {
				t.Errorf("%d frames were sent, %d arrived, and %d count as dropped", o.sent, o.got, o.dropped)
			}
		})
	}
}

// A client that takes nothing is closed as a slow consumer at the first full queue after a period. One that takes less
// than a queue in a period is closed as well, and one that takes more stays.
func TestHopelessClientIsClosed(t *testing.T) {
	for _, c := range []struct {
		name  string
		reads int // frames of 16 KiB in a period
		want  bool
	}{{"reads nothing", 0, false}, {"reads slowly", 4, false}, {"reads", 200, true}} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, false)
			client, conn := s.dial(t)
			const limit, period = 256 << 10, 20 * time.Millisecond
			frame := relay.AppendFrame(nil, make([]byte, 16<<10))
			fill := func() {
				for conn.Send(frame, limit) {
				}
			}
			fill()
			if _, ok := conn.DropEvents(limit, period); !ok {
				t.Fatal("closed at the first full queue")
			}
			began := time.Now()
			for range c.reads {
				if _, _, err := client.next(); err != nil {
					t.Fatal(err)
				}
				fill() // the queue is never empty
			}
			time.Sleep(time.Until(began.Add(period))) // the period is over, whatever the machine's load
			fill()
			if _, ok := conn.DropEvents(limit, period); ok != c.want {
				t.Errorf("open %v, want %v", ok, c.want)
			}
			if _, slow := conn.Waiting(); slow == c.want {
				t.Errorf("slow %v", slow)
			}
		})
	}
}

// A client reads a frame that is longer than its queue. The bytes of the frame count as they leave: the client stays.
func TestSlowReaderOfALongFrameStays(t *testing.T) {
	client, conn := newServer(t, false).dial(t)
	const limit, period = 256 << 10, 20 * time.Millisecond
	conn.Send(relay.AppendFrame(nil, make([]byte, 64<<20)), limit)
	fill := func() {
		for conn.Send(relay.AppendFrame(nil, make([]byte, 16<<10)), limit) {
		}
	}
	fill()
	if _, ok := conn.DropEvents(limit, period); !ok {
		t.Fatal("closed at the first full queue")
	}
	began := time.Now()
	if _, err := io.CopyN(io.Discard, client.r, 32<<20); err != nil { // more than the buffers of the system take
		t.Fatal(err)
	}
	time.Sleep(time.Until(began.Add(period)))
	fill()
	if _, ok := conn.DropEvents(limit, period); !ok {
		t.Error("closed while it reads")
	}
}
