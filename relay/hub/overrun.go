package hub

import (
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// This file handles clients whose queue is full. A client that goes on reading cannot help a backlog that a peer, Redis
// or a history delivers at once: it stays connected, loses queued events, is told, and gets the newest ones.
// See docs/decisions/hub.md#why-does-a-full-queue-not-close-a-client

// defaultOverrunPeriod is the period of [relay.Dropper] if clients never time out.
const defaultOverrunPeriod = time.Minute

// retryJob sends a job to a session whose socket has not taken it, and returns the number of events that the client
// does not get. The round is held.
func (h *Hub) retryJob(s *Session, j *job, limit int) (missed int) {
	told, open := h.makeRoom(s, limit)
	if open && s.socket.Send(j.frames, limit) {
		return 0
	}
	if open { // answers and notices fill the queue
		h.loseQueued(s, j.count, told)
	}
	return j.count
}

// retry sends the rest of a session's sequence, of which the socket has taken so many bytes, and returns the number of
// events that the client does not get. The frames are plain: a compressed one may refer to a dropped one. The round is
// held.
func (g *gather) retry(h *Hub, s *Session, jobs []job, taken, limit int) (missed int) {
	h.makeRoom(s, limit) // first, so that no later message refers to the compressed form of these jobs
	for i := s.seq.first - 1; i >= 0; i = g.steps[i].next {
		step := &g.steps[i]
		if taken > 0 {
			taken -= len(step.frames(jobs))
			continue
		}
		if j := &jobs[step.job>>formBits]; !s.socket.Send(j.frames, limit) {
			missed += h.retryJob(s, j, limit)
		}
	}
	return missed
}

// makeRoom drops the events that are queued for a client, and tells the client. told is set if a notice ends the queue.
// open is false if the connection is closed. The round is held.
func (h *Hub) makeRoom(s *Session, limit int) (told, open bool) {
	d, ok := s.socket.(relay.Dropper)
	if !ok {
		return false, false
	}
	period := h.Limits().Silence
	if period <= 0 {
		period = defaultOverrunPeriod
	}
	dropped, open := d.DropEvents(limit, period)
	if !open || dropped.Events == 0 {
		return dropped.Told, open
	}
	return true, h.loseQueued(s, dropped.Events, dropped.Told)
}

// loseQueued counts events that a client does not get because its queue is full, and tells the client unless it was
// told. It returns false if the connection is closed.
func (h *Hub) loseQueued(s *Session, events int, told bool) (open bool) {
	h.Lost(relay.Loss{Cause: relay.LossOverrun, Events: events})
	if told {
		return true
	}
	if notice := h.overrunNotice(s); notice != nil {
		return s.socket.(relay.Dropper).SendNotice(notice)
	}
	return true
}

// overrunNotice returns the frame that tells a client about dropped events, nil if there is none that it understands.
func (h *Hub) overrunNotice(s *Session) []byte {
	if s.positioned {
		if f := h.framerOf(s.format); f != nil {
			return appendText(nil, f.EncodeGap(relay.Gap{Groups: s.groupsNow(), Cause: relay.LossOverrun}))
		}
		return nil
	}
	if frame := h.losses.frame.Load(); frame != nil && s.format == nil {
		return *frame
	}
	return nil
}

// groupsNow returns the session's groups; nil, which stands for all, while a subscription is in progress: the caller
// holds the shard's round, and must not wait for s.mu.
func (s *Session) groupsNow() (groups []string) {
	if !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		groups = append(groups, sub.group)
	}
	return groups
}
