package doctor

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"time"
)

const (
	// smallExchanges is the number of pings that measure the path, smallInterval the time between them, and smallWait
	// the time to wait for the last answer.
	smallExchanges = 20
	smallInterval  = 25 * time.Millisecond
	smallWait      = 2 * time.Second
	// largeExchanges is the number of pings that are written at once: they fill several packets of full size. largeWait
	// is the time to wait for the last answer.
	largeExchanges = 64
	largeWait      = 4 * time.Second
	// maxControl is the longest payload of a ping in bytes.
	maxControl = 125
	// warnRetransmitted is the share of segments that may be sent again without a warning.
	warnRetransmitted = 0.02
)

// PathMeasure describes the network path to a peer, measured over one connection.
type PathMeasure struct {
	// Connect is the time for TCP to connect, in seconds.
	Connect float64 `json:"connect_seconds"`
	// Exchanges is the number of small exchanges, and Unanswered the number of those without an answer.
	Exchanges  int `json:"exchanges"`
	Unanswered int `json:"unanswered"`
	// RTTMin, RTTMedian and RTTMax are round-trip times of the small exchanges; Jitter is the mean difference between
	// two successive ones. All are in seconds.
	RTTMin    float64 `json:"rtt_min_seconds"`
	RTTMedian float64 `json:"rtt_median_seconds"`
	RTTMax    float64 `json:"rtt_max_seconds"`
	Jitter    float64 `json:"jitter_seconds"`
	// LargeSeconds is the duration of the large exchange; 0 if it stalled.
	LargeSeconds float64 `json:"large_seconds"`
	// Segments counts sent TCP segments, Retransmitted those that were sent again. MTU is the path's MTU as the kernel
	// knows it, MSS the length of a segment before the large exchange and MSSAfter the one after. All are 0 where the
	// kernel does not tell.
	Segments      int `json:"segments"`
	Retransmitted int `json:"retransmitted"`
	MTU           int `json:"mtu"`
	MSS           int `json:"mss"`
	MSSAfter      int `json:"mss_after"`

	// lossy is set if segments of small exchanges were sent again or had no answer: then a large exchange that stalls
	// proves no black hole.
	lossy bool
	// ended is set if the connection, or the time for the check, ended before all answers.
	ended bool
}

// pinger exchanges pings over a WebSocket connection whose handshake is done. The other side answers them without any
// effect on its links.
type pinger struct {
	conn  net.Conn
	pongs chan pong // closed at the end of the connection
	sent  map[uint64]time.Time
	next  uint64
	ended bool // the connection has ended before all answers
}

type pong struct {
	id uint64
	at time.Time
}

func newPinger(conn net.Conn, r *bufio.Reader) *pinger {
	p := &pinger{conn: conn, pongs: make(chan pong, smallExchanges+largeExchanges), sent: map[uint64]time.Time{}}
	go p.read(r)
	return p
}

// read passes on the answers until the connection ends.
func (p *pinger) read(r *bufio.Reader) {
	defer close(p.pongs)
	for {
		opcode, payload, err := readFrame(r)
		if err != nil {
			return
		}
		if opcode == opPong && len(payload) >= 8 {
			select {
			case p.pongs <- pong{binary.BigEndian.Uint64(payload), time.Now()}:
			default: // more answers than pings
			}
		}
	}
}

const (
	opClose = 8
	opPing  = 9
	opPong  = 10
	// maxFrame bounds the frames that are read: a peer's first message, or events of a Python node.
	maxFrame = 1 << 20
)

// readFrame reads a frame of a server, which is not masked.
func readFrame(r *bufio.Reader) (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := uint64(head[1] & 0x7f)
	if extra := map[uint64]int{126: 2, 127: 8}[size]; extra > 0 {
		var long [8]byte
		if _, err := io.ReadFull(r, long[8-extra:]); err != nil {
			return 0, nil, err
		}
		size = binary.BigEndian.Uint64(long[:])
	}
	if size > maxFrame || head[1]&0x80 != 0 {
		return 0, nil, errors.New("invalid frame")
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(r, payload)
	return head[0] & 0x0f, payload, err
}

// appendFrame appends a frame of a client, which is masked.
func appendFrame(to []byte, opcode byte, payload []byte) []byte {
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], rand.Uint32())
	to = append(to, 0x80|opcode, 0x80|byte(len(payload)))
	to = append(to, mask[:]...)
	for i, b := range payload {
		to = append(to, b^mask[i%4])
	}
	return to
}

// ping writes count pings of a size in one write.
func (p *pinger) ping(count, size int) error {
	var frames []byte
	now := time.Now()
	for range count {
		payload := make([]byte, size)
		binary.BigEndian.PutUint64(payload, p.next)
		p.sent[p.next] = now
		p.next++
		frames = appendFrame(frames, opPing, payload)
	}
	_ = p.conn.SetWriteDeadline(now.Add(largeWait))
	_, err := p.conn.Write(frames)
	p.ended = p.ended || err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	return err
}

// await collects answers until all pings are answered or a time has passed. Round trips are in the order of the
// answers.
func (p *pinger) await(ctx context.Context, wait time.Duration, answered func(time.Duration)) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for len(p.sent) > 0 {
		select {
		case a, ok := <-p.pongs:
			if !ok {
				p.ended = true
				return
			}
			if at, ok := p.sent[a.id]; ok {
				delete(p.sent, a.id)
				answered(a.at.Sub(at))
			}
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// measure exchanges small messages, then a large one.
func (m *PathMeasure) measure(ctx context.Context, conn net.Conn, r *bufio.Reader) {
	p := newPinger(conn, r)
	var trips []time.Duration
	add := func(d time.Duration) { trips = append(trips, d) }
	for m.Exchanges = 0; m.Exchanges < smallExchanges && ctx.Err() == nil; m.Exchanges++ {
		if p.ping(1, 8) != nil {
			break
		}
		pause, cancel := context.WithTimeout(ctx, smallInterval)
		p.await(pause, smallWait, add)
		<-pause.Done()
		cancel()
	}
	p.await(ctx, smallWait, add)
	m.Unanswered = m.Exchanges - len(trips)
	m.setTrips(trips)
	before := readKernel(conn)
	m.MSS, m.lossy = before.mss, before.retransmitted > 1 || m.Unanswered > 0
	clear(p.sent)
	large := time.Now()
	if len(trips) > 0 && p.ping(largeExchanges, maxControl) == nil {
		var last time.Duration
		p.await(ctx, largeWait, func(d time.Duration) { last = d })
		if len(p.sent) == 0 {
			m.LargeSeconds = last.Seconds()
		}
	}
	// A check without the time for a large exchange knows nothing about one.
	m.ended = p.ended || ctx.Err() != nil && time.Since(large) < largeWait
	kernel := readKernel(conn)
	m.Segments, m.Retransmitted, m.MTU, m.MSSAfter = kernel.segments, kernel.retransmitted, kernel.mtu, kernel.mss
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write(appendFrame(nil, opClose, []byte{0x03, 0xe8})) // 1000
}

func (m *PathMeasure) setTrips(trips []time.Duration) {
	if len(trips) == 0 {
		return
	}
	var changes time.Duration
	for i := 1; i < len(trips); i++ {
		changes += (trips[i] - trips[i-1]).Abs()
	}
	m.Jitter = changes.Seconds() / float64(max(1, len(trips)-1))
	slices.Sort(trips)
	m.RTTMin, m.RTTMedian, m.RTTMax = trips[0].Seconds(), trips[len(trips)/2].Seconds(), trips[len(trips)-1].Seconds()
}

// judgePath returns the findings for a measured path.
func judgePath(url string, m *PathMeasure) (list []Finding) {
	const check = "peer path"
	milliseconds := func(seconds float64) string {
		return time.Duration(seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
	}
	if m.ended {
		return []Finding{warn(check, "run the check again; if this repeats, look into the node's log, and at the time "+
			"limits of proxies in front of it",
			"%s: the connection ended during the check, after %d of %d small exchanges", url,
			m.Exchanges-m.Unanswered, smallExchanges)}
	}
	if m.Unanswered == m.Exchanges {
		return []Finding{warn(check, "let proxies in front of the node pass WebSockets on, "+
			"and look into the node's log",
			"%s: none of %d small exchanges had an answer within %v", url, m.Exchanges, smallWait)}
	}
	defer func() {
		for i := range list {
			list[i].Path = m
		}
	}()
	text := fmt.Sprintf("%s: connected in %s; %d round trips took %s to %s, median %s, jitter %s", url,
		milliseconds(m.Connect), m.Exchanges-m.Unanswered, milliseconds(m.RTTMin), milliseconds(m.RTTMax),
		milliseconds(m.RTTMedian), milliseconds(m.Jitter))
	if m.MTU > 0 {
		text += fmt.Sprintf("; MTU %d, segments of %d bytes", m.MTU, m.MSS)
	}
	const mtuRemedy = "let ICMP 'fragmentation needed' and 'packet too big' pass on the path, " +
		"or lower the interface's MTU; " +
		"net.ipv4.tcp_mtu_probing=1 lets the kernel find the limit"
	const lossRemedy = "look for a full or faulty line between the nodes, such as with mtr"
	switch {
	case m.LargeSeconds == 0 && m.lossy:
		list = append(list, fail(check, lossRemedy,
			"%s: %d bytes at once do not arrive within %v, and small exchanges suffer too: "+
				"%d of %d segments were sent again",
			url, largeExchanges*(maxControl+6), largeWait, m.Retransmitted, m.Segments))
	case m.LargeSeconds == 0:
		list = append(list, fail(check, mtuRemedy,
			"%s: small exchanges pass, but %d bytes at once stall for %v: "+
				"packets of %d bytes seem to vanish (MTU black hole)",
			url, largeExchanges*(maxControl+6), largeWait, m.MTU))
	case m.MSSAfter < m.MSS:
		list = append(list, warn(check, mtuRemedy,
			"%s: the path's MTU is smaller than the interface's: "+
				"segments shrank from %d to %d bytes during the check, which "+
				"took %s", url, m.MSS, m.MSSAfter, milliseconds(m.LargeSeconds)))
	}
	lost := float64(m.Retransmitted) / float64(max(1, m.Segments))
	if m.LargeSeconds > 0 && (m.Retransmitted > 1 && lost > warnRetransmitted || m.Unanswered > 0) {
		list = append(list, warn(check, lossRemedy,
			"%s: %d of %d segments were sent again, and %d of %d small exchanges had no answer within %v", url,
			m.Retransmitted, m.Segments, m.Unanswered, m.Exchanges, smallWait))
	}
	if len(list) == 0 && m.Segments > 0 {
		text += fmt.Sprintf("; %d of %d segments sent again", m.Retransmitted, m.Segments)
	}
	return append([]Finding{ok(check, "%s", text)}, list...)
}

// kernelInfo has the kernel's figures of a TCP connection; zeros where it does not tell.
type kernelInfo struct{ segments, retransmitted, mtu, mss int }
