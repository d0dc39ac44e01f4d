package channels

import (
	"bytes"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Socket is the socket of a client from before its WebSocket is open: the client subscribes first, so that it misses no
// event from the moment at which it knows of the open connection. Until Release, the Socket keeps frames back.
// See docs/decisions/protocol-and-authz.md#why-does-a-routes-client-subscribe-before-its-websocket-is-open
type Socket struct {
	// deflates is set if the client agrees on compression. It does not change after the session has begun.
	deflates bool

	mu   sync.Mutex // guards the fields below
	conn relay.Socket
	held *heldFrames // nil after the release
}

// heldFrames are the frames that wait for the connection, and for the first frames.
type heldFrames struct {
	frames []heldFrame
	size   int // of all frames
	free   int // of the frames without a limit
	// Of a socket without a connection: what is to become of the connection.
	code   int
	reason string
	killed bool
	// envelop is set if first frames are those of the subprotocol.
	envelop bool
}

// heldFrame is a frame, or several ones. Answers are never dropped.
type heldFrame struct {
	bytes  []byte
	answer bool
}

// NewSocket returns a socket without a connection. deflates is whether the client will have agreed on compression; if
// its connection has not in the end, it gets plain frames.
func NewSocket(deflates bool) *Socket { return &Socket{deflates: deflates, held: &heldFrames{}} }

// Deflates implements [relay.Deflater].
func (s *Socket) Deflates() bool { return s.deflates }

// Choose implements [relay.Deflater]. Frames are plain as long as they may be kept back: the client gets the first
// frames before them.
func (s *Socket) Choose(c *relay.Compressed) relay.Form {
	s.mu.Lock()
	conn, held := s.conn, s.held
	s.mu.Unlock()
	if d, ok := conn.(relay.Deflater); ok && held == nil {
		return d.Choose(c)
	}
	return relay.Plain
}

// Send implements [relay.Socket]. A client whose frames exceed the limit before the release is closed as a slow
// consumer.
func (s *Socket) Send(frames []byte, limit int) bool {
	conn, ok := s.hold(heldFrame{bytes: frames}, limit, false)
	if conn != nil {
		return conn.Send(frames, limit)
	}
	return ok
}

// SendCopy implements [relay.Socket].
func (s *Socket) SendCopy(frames []byte, limit int) bool {
	conn, ok := s.hold(heldFrame{bytes: frames}, limit, true)
	if conn != nil {
		return conn.SendCopy(frames, limit)
	}
	return ok
}

// SendAnswer implements [relay.Dropper].
func (s *Socket) SendAnswer(frames []byte, limit int) bool {
	conn, ok := s.hold(heldFrame{frames, true}, limit, false)
	if conn != nil {
		return relay.SendAnswer(conn, frames, limit)
	}
	return ok
}

// hold keeps a frame back, or returns the connection to which it goes. A borrowed buffer is copied. ok is false if the
// client has too many frames. Frames without a limit do not count against it, and frames after the end are dropped.
func (s *Socket) hold(f heldFrame, limit int, borrowed bool) (conn relay.Socket, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return s.conn, true
	}
	if s.held.code != 0 || s.held.killed {
		return nil, true
	}
	s.held.size += len(f.bytes)
	if limit <= 0 {
		s.held.free += len(f.bytes)
	} else if s.held.size-s.held.free > limit {
		s.held.frames = nil
		s.close(relay.ClosePolicy, "too many events before the first frame")
		return nil, false
	}
	if borrowed {
		f.bytes = bytes.Clone(f.bytes)
	}
	s.held.frames = append(s.held.frames, f)
	return nil, true
}

// SendNotice implements [relay.Dropper].
func (s *Socket) SendNotice(frames []byte) bool {
	d := s.dropper()
	return d != nil && d.SendNotice(frames)
}

// DropEvents implements [relay.Dropper]. Frames that are kept back are not dropped.
func (s *Socket) DropEvents(limit int, period time.Duration) (d relay.Dropped, ok bool) {
	if dropper := s.dropper(); dropper != nil {
		return dropper.DropEvents(limit, period)
	}
	return d, false
}

// dropper returns the connection if it can drop events and no frame is kept back any more.
func (s *Socket) dropper() relay.Dropper {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		return nil
	}
	d, _ := s.conn.(relay.Dropper)
	return d
}

// Envelop makes first frames those of the subprotocol, see [EnvelopFirst].
func (s *Socket) Envelop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held.envelop = true
}

// Bind gives the socket its connection.
func (s *Socket) Bind(conn relay.Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
	switch held := s.held; {
	case held.killed:
		conn.Kill()
	case held.code != 0:
		conn.Close(held.code, held.reason)
	}
}

// Open is Bind and Release. A socket that was closed before sends the frames that it has kept back before it closes the
// connection.
func (s *Socket) Open(conn relay.Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
	held := s.held
	s.release()
	switch {
	case held.killed:
		conn.Kill()
	case held.code != 0:
		conn.Close(held.code, held.reason)
	}
}

// SendFirst sends a text frame before those that are kept back, unless its payload is empty. The socket has its
// connection.
func (s *Socket) SendFirst(payload []byte, limit int) {
	if len(payload) > 0 {
		s.mu.Lock()
		if s.held != nil && s.held.envelop {
			payload = EnvelopFirst(payload)
		}
		s.mu.Unlock()
		relay.SendAnswer(s.bound(), relay.AppendFrame(nil, payload), limit)
	}
}

// Release sends the frames that were kept back. No frame is kept back from then on. The socket has its connection.
func (s *Socket) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
}

// release is Release with the lock held.
func (s *Socket) release() {
	for _, f := range s.held.frames { // their size has been checked
		if f.answer {
			relay.SendAnswer(s.conn, f.bytes, 0)
		} else {
			s.conn.Send(f.bytes, 0)
		}
	}
	s.held = nil
}

// Held returns the frames that are kept back, and forgets them: the caller sends them before the next ones. The frames
// of a socket that is to be closed stay where they are.
func (s *Socket) Held() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil || s.held.code != 0 || s.held.killed {
		return nil
	}
	var frames []byte
	for _, f := range s.held.frames {
		frames = append(frames, f.bytes...)
	}
	s.held.frames, s.held.size, s.held.free = nil, 0, 0
	return frames
}

// bound returns the connection, nil if there is none.
func (s *Socket) bound() relay.Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// Close implements [relay.Socket].
func (s *Socket) Close(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close(code, reason)
}

// close is Close with the lock held.
func (s *Socket) close(code int, reason string) {
	switch {
	case s.conn != nil:
		s.conn.Close(code, reason)
	case s.held.code == 0:
		s.held.code, s.held.reason = code, reason
	}
}

// Kill implements [relay.Socket].
func (s *Socket) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Kill()
		return
	}
	s.held.killed = true
}

// CloseSlow closes the connection as that of a slow consumer. A socket without a connection has closed itself.
func (s *Socket) CloseSlow() {
	if c, ok := s.bound().(interface{ CloseSlow() }); ok {
		c.CloseSlow()
	}
}

// Ping implements [relay.Socket].
func (s *Socket) Ping() bool {
	conn := s.bound()
	return conn != nil && conn.Ping()
}

// Waiting implements [relay.Socket].
func (s *Socket) Waiting() (n int, slow bool) {
	s.mu.Lock()
	conn, held := s.conn, s.held
	if held != nil {
		n = held.size
	}
	s.mu.Unlock()
	if conn == nil {
		return n, false
	}
	queued, slow := conn.Waiting()
	return n + queued, slow
}

// LastRead implements [relay.Socket].
func (s *Socket) LastRead() time.Time {
	if conn := s.bound(); conn != nil {
		return conn.LastRead()
	}
	return time.Now()
}

var (
	_ relay.Socket   = (*Socket)(nil)
	_ relay.Deflater = (*Socket)(nil)
	_ relay.Dropper  = (*Socket)(nil)
)
