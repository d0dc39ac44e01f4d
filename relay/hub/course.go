package hub

import (
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// course is the state of a group that clients with positions are subscribed to, on any shard.
type course struct {
	group string

	mu sync.Mutex // guards the fields below
	// head is the position from which a client that begins now can resume: of the last event, or of a later mark in the
	// history. headAt is when head was last known to be current.
	head   relay.Position
	headAt time.Time
	last   relay.Position // of the last event
	first  relay.Position // of the first event that followed an unknown head

	// The mutex of resumes guards the fields below.
	audiences int
	next      []*pending // of the next wave
	busy      bool       // queued, or a wave is in progress
	paced     time.Time  // when the waves so far would have come at the pace of waveInterval
}

const (
	// waveInterval is the least time between two waves of a group, after a burst of waveBurst. Clients that come back one
	// after another share reads, too.
	waveInterval = 250 * time.Millisecond
	waveBurst    = 4
)

// pause counts a wave, and returns the time until it may begin. The mutex of resumes is held.
func (c *course) pause(now time.Time) time.Duration {
	if c.paced.Before(now) {
		c.paced = now
	}
	wait := max(0, c.paced.Sub(now)-(waveBurst-1)*waveInterval)
	c.paced = c.paced.Add(waveInterval)
	return wait
}

// advance records the positions of events that are handed to the shards: the last one becomes the head.
func (c *course) advance(positions []relay.Position) {
	for i := len(positions) - 1; i >= 0; i-- {
		if !positions[i].IsZero() {
			now := time.Now()
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.head.IsZero() && c.first.IsZero() {
				c.first = firstPosition(positions)
			}
			c.head, c.headAt, c.last = positions[i], now, positions[i]
			return
		}
	}
}

// firstPosition returns the first position that is known.
func firstPosition(positions []relay.Position) (first relay.Position) {
	for _, p := range positions {
		if !p.IsZero() {
			return p
		}
	}
	return first
}

// newest returns the head, whatever its age; zero if it is unknown.
func (c *course) newest() relay.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head
}

// firstEvent returns the position of the first event since the head was unknown, zero if there was none.
func (c *course) firstEvent() relay.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

func (c *course) setHead(p relay.Position) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head, c.headAt = p, now
}

// setFirstHead sets the head that a read has found, unless events have come meanwhile.
func (c *course) setFirstHead(p relay.Position, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.headAt.Before(began) {
		c.head, c.headAt = p, began
	}
}

// currentHead returns the position from which a client that begins now can resume, and false if it is unknown, or so
// old that the history may have removed it.
func (c *course) currentHead(age time.Duration) (relay.Position, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head, !c.head.IsZero() && time.Since(c.headAt) < age/2
}

// lastEvent returns the position of the last event, zero if it is unknown.
func (c *course) lastEvent() relay.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// course returns the course of a group, for an audience of another shard.
func (r *resumes) course(group string) *course {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.courses[group]
	if c == nil {
		c = &course{group: group}
		r.courses[group] = c
	}
	c.audiences++
	return c
}

// release ends the use of a course by an audience.
func (r *resumes) release(c *course) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.audiences--; c.audiences == 0 {
		delete(r.courses, c.group)
	}
}

// find returns the course of a group, nil if no client with positions is subscribed.
func (r *resumes) find(group string) *course {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.courses[group]
}

// all returns all courses.
func (r *resumes) all() []*course {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*course, 0, len(r.courses))
	for _, c := range r.courses {
		all = append(all, c)
	}
	return all
}

// forgetHeads is called after a change of the history.
func (r *resumes) forgetHeads() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.courses {
		c.mu.Lock()
		c.head, c.last, c.first = relay.Position{}, relay.Position{}, relay.Position{}
		c.mu.Unlock()
	}
}
