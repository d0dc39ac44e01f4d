package sse

import (
	"context"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// stream is the response of an HTTP handler as a [net.Conn] that is only written to.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	ctx     context.Context
	options *Options
	done    chan struct{} // closed by Close
	closed  sync.Once
	writing atomic.Bool
	closing atomic.Bool // set before Close looks at writing

	// gate is held for reading while the response is in use, and for writing by wait before the handler returns: net/http
	// panics if the response is used after that.
	gate sync.RWMutex
	over bool // guarded by gate
}

// Write implements [net.Conn]. Calls do not overlap.
func (s *stream) Write(b []byte) (int, error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.over {
		return 0, net.ErrClosed
	}
	s.writing.Store(true)
	defer s.writing.Store(false)
	if s.closing.Load() { // Close may have seen no write to abort
		return 0, net.ErrClosed
	}
	n, err := s.w.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

// SetWriteDeadline implements [net.Conn].
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.over {
		return net.ErrClosed
	}
	return s.control.SetWriteDeadline(t)
}

// Close implements [net.Conn]. It has the handler return, and aborts a write that the client keeps waiting.
func (s *stream) Close() error {
	s.closed.Do(func() {
		s.closing.Store(true)
		if s.writing.Load() {
			_ = s.SetWriteDeadline(time.Now())
		}
		close(s.done)
	})
	return nil
}

// wait waits for the end of the response, and ends it in time. After the return, nothing is written.
func (s *stream) wait(c *Conn) {
	renew, retired := newTimer(s.options.Lifetime), s.options.Retired
	for ended := false; !ended; {
		select {
		case <-s.done:
			ended = true
		case <-s.ctx.Done():
			ended = true
		case <-retired:
			retired = nil
			renew.Stop()
			renew = newTimer(1 + rand.N(max(s.options.RetireWithin, 1)))
		case <-renew.C:
			c.Close(relay.CloseRestart, RenewReason)
		}
	}
	renew.Stop()
	_ = s.Close()
	if !s.gate.TryLock() {
		if s.options.Cut != nil {
			stuck := time.AfterFunc(stuckTimeout, s.options.Cut)
			defer stuck.Stop()
		}
		s.gate.Lock()
	}
	s.over = true
	s.gate.Unlock()
}

// stuckTimeout is how long a write may continue after its response has been aborted. An HTTP/2 server then waits for
// the TCP connection beneath, which does not accept bytes.
const stuckTimeout = 5 * time.Second

// newTimer returns a timer that never fires for 0.
func newTimer(d time.Duration) *time.Timer {
	if d <= 0 {
		d = math.MaxInt64
	}
	return time.NewTimer(d)
}

// Read implements [net.Conn]. The body of the request has been read.
func (s *stream) Read([]byte) (int, error) {
	<-s.done
	return 0, net.ErrClosed
}

// LocalAddr implements [net.Conn].
func (s *stream) LocalAddr() net.Addr { return nil }

// RemoteAddr implements [net.Conn].
func (s *stream) RemoteAddr() net.Addr { return nil }

// SetDeadline implements [net.Conn].
func (s *stream) SetDeadline(t time.Time) error { return s.SetWriteDeadline(t) }

// SetReadDeadline implements [net.Conn].
func (s *stream) SetReadDeadline(time.Time) error { return nil }
