// Package poll is the server side of a long poll: a request that is answered with the frames that have come, as soon as
// there are any worth an answer, or after a while. A [Socket] is the client for the engine as long as the request
// lasts.
package poll

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// gatherTime is how long an answer waits for more frames after the first one that is worth an answer.
	gatherTime = 10 * time.Millisecond
	// settleTime bounds the time for the beginnings of subscriptions, if the client does not wait.
	settleTime = 10 * time.Second
)

// Socket collects the frames of the subprotocol edgerelay.events.v1 that a client gets. It implements [relay.Socket].
// Methods may be called concurrently, except Wait, which is called once.
type Socket struct {
	limit int // bytes

	mu      sync.Mutex // guards the fields below
	answer  []byte     // frames, separated by commas
	joined  int        // subscriptions that have not begun
	settled bool       // all have
	known   bool       // joined is known
	urgent  bool
	closed  bool
	changed chan struct{} // has an element after a change that Wait looks at
}

// New returns a socket whose answer is at most a little longer than limit bytes.
func New(limit int) *Socket {
	return &Socket{limit: limit, changed: make(chan struct{}, 1)}
}

// Send implements [relay.Socket]. A full answer ends the request: the client asks for the rest.
func (s *Socket) Send(frames []byte, _ int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(frames) > 0 && !s.closed {
		payload, _, rest := relay.CutFrame(frames)
		frames = rest
		if len(payload) == 0 {
			continue
		}
		if len(s.answer) > 0 {
			s.answer = append(s.answer, ',')
		}
		s.answer = append(s.answer, payload...)
		s.look(payload)
		s.closed = s.closed || s.limit > 0 && len(s.answer) >= s.limit
	}
	s.notify()
	return len(frames) == 0
}

// SendCopy implements [relay.Socket].
func (s *Socket) SendCopy(frames []byte, limit int) bool { return s.Send(frames, limit) }

// look notes what a frame means for the answer. s.mu is held.
func (s *Socket) look(frame []byte) {
	switch {
	case bytes.HasPrefix(frame, []byte(`{"type":"subscribed"`)):
		s.joined--
		s.urgent = s.urgent || bytes.Contains(frame, []byte(`"recovered":false`)) &&
			!bytes.Contains(frame, []byte(`"reason":"no_history"`))
	case bytes.HasPrefix(frame, []byte(`{"groups_current": `)):
		var change struct {
			Joined []string `json:"groups_joined"`
		}
		if json.Unmarshal(frame, &change) == nil {
			s.joined += len(change.Joined)
			s.known = true
		}
	case bytes.HasPrefix(frame, []byte(`{"accept": `)), bytes.HasPrefix(frame, []byte(`{"type":"first"`)):
	default:
		s.urgent = true
	}
	s.settled = s.known && s.joined <= 0
}

// Expect tells how many subscriptions begin, of a client that gets no frame with its groups.
func (s *Socket) Expect(groups int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined += groups
	s.known = true
	s.settled = s.joined <= 0
	s.notify()
}

// notify wakes Wait. s.mu is held.
func (s *Socket) notify() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Wait waits until there is something to answer, until a time is over, or until ctx or done ends. With no time, it
// waits for the beginnings of the subscriptions. It returns the frames, separated by commas, and takes no more.
func (s *Socket) Wait(ctx context.Context, wait time.Duration, done <-chan struct{}) (frames []byte) {
	limit := wait
	if limit <= 0 {
		limit = settleTime
	}
	end := time.NewTimer(limit)
	defer end.Stop()
	for gathering := false; ; {
		s.mu.Lock()
		over := s.closed || wait <= 0 && s.settled
		if s.urgent && !gathering {
			gathering = true
			end.Reset(min(gatherTime, limit))
		}
		if over {
			s.closed = true
			defer s.mu.Unlock()
			return s.answer
		}
		s.mu.Unlock()
		select {
		case <-s.changed:
			continue
		case <-end.C:
		case <-ctx.Done():
		case <-done:
		}
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
	}
}

// Close implements [relay.Socket]: the client gets what there is.
func (s *Socket) Close(int, string) { s.Kill() }

// Kill implements [relay.Socket].
func (s *Socket) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.notify()
}

// Ping implements [relay.Socket].
func (s *Socket) Ping() (sent bool) { return false }

// Waiting implements [relay.Socket]. A replay that is longer than an answer may be waits for the next request.
func (s *Socket) Waiting() (n int, slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.answer), false
}

// LastRead implements [relay.Socket]: a client that waits for its answer has nothing to send.
func (s *Socket) LastRead() time.Time { return time.Now() }

var _ relay.Socket = (*Socket)(nil)
