// Package fairqueue shares a bounded number of slots among classes of work by weight, and within a class among keys by
// turns. A flood of a class or key delays other work at most by the work in flight.
//
// relay/authz/internal/authority holds a slot during each request to an authority.
package fairqueue

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrFull means that the queue is full, or that the class's timeout has passed without a slot.
var ErrFull = errors.New("the queue is full")

// reserveFrom is the number of slots per class from which every idle class has a reserved slot. With fewer slots,
// reservations would cost the busy classes too much.
const reserveFrom = 4

// Class configures a class of work.
type Class struct {
	// Weight is the class's share of the slots while all classes have work. Unused slots are lent to other classes,
	// until they are released.
	Weight int
	// MaxPerKey and MaxQueued bound the queued callers of a key and of the class. When the class is full, a caller
	// takes the place of the last caller in the longest line, unless the caller's own line would then be longer.
	MaxPerKey, MaxQueued int
	// Timeout is how long a caller may be queued.
	Timeout time.Duration
}

// Queue hands out slots. Methods are safe for concurrent use.
// See docs/decisions/protocol-and-authz.md#why-are-lookups-queued-by-class-address-and-user
type Queue struct {
	mu      sync.Mutex // guards all below, and the classes
	slots   int
	used    int
	reserve bool // each idle class has a reserved slot
	clock   float64
	classes []class
}

// class is the state of a [Class].
type class struct {
	Class
	used, queued int
	// turn is the virtual time of the next turn. Turns break ties, so that a few slots go round all classes.
	turn     float64
	lines    map[string]*line
	next     *line   // the line with the next turn; the lines form a ring
	byLength []*line // lists of the lines of each length
	longest  int
}

// line is the queue of a key, first in, first out. Empty lines are removed.
type line struct {
	key         string
	first, last *waiter
	length      int
	left, right *line // in the ring
	prev, next  *line // in the list of lines of the same length
}

// waiter is a queued caller.
type waiter struct {
	done        chan struct{} // closed when the waiter gets a slot or is evicted
	evicted     bool          // set before done is closed
	line        *line
	left, right *waiter
}

// New returns a queue with the given number of slots, at least 1.
func New(slots int, classes ...Class) *Queue {
	q := &Queue{slots: max(slots, 1)}
	q.reserve = q.slots >= reserveFrom*len(classes)
	for _, c := range classes {
		c.Weight = max(c.Weight, 1)
		q.classes = append(q.classes, class{
			Class: c, lines: map[string]*line{}, byLength: make([]*line, c.MaxPerKey+2),
		})
	}
	return q
}

// Slots returns the number of slots.
func (q *Queue) Slots() int { return q.slots }

// Queued returns the number of queued callers of each class.
func (q *Queue) Queued() []int {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]int, len(q.classes))
	for i := range q.classes {
		list[i] = q.classes[i].queued
	}
	return list
}

// Acquire waits for a slot, which the caller must return with Release of the same class. The error is ErrFull or ctx's.
func (q *Queue) Acquire(ctx context.Context, class int, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	c := &q.classes[class]
	if c.queued == 0 && q.available(class) {
		q.grant(c)
		q.mu.Unlock()
		return nil
	}
	w, err := c.enqueue(key, q.clock)
	q.mu.Unlock()
	if err != nil {
		return err
	}
	timer := time.NewTimer(c.Timeout)
	defer timer.Stop()
	select {
	case <-w.done:
		return w.err()
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = ErrFull
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.done: // in the meantime
		if w.evicted || ctx.Err() == nil {
			return w.err()
		}
		q.release(class)
	default:
		c.remove(w)
	}
	return err
}

// err returns the result of a waiter that is done.
func (w *waiter) err() error {
	if w.evicted {
		return ErrFull
	}
	return nil
}

// Release returns a slot of a class.
func (q *Queue) Release(class int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.release(class)
}

func (q *Queue) release(class int) {
	q.used--
	q.classes[class].used--
	for q.used < q.slots {
		next := q.nextClass()
		if next == nil {
			return
		}
		q.grant(next)
		close(next.dequeue().done)
	}
}

// available reports whether a free slot is left for a class, without the slots reserved for other classes.
func (q *Queue) available(class int) bool {
	free := q.slots - q.used
	if q.reserve {
		for i := range q.classes {
			if i != class && q.classes[i].used == 0 {
				free--
			}
		}
	}
	return free > 0
}

// nextClass returns the class for the next slot: of those with queued callers, the class that uses the least of its
// share. It returns nil if no class may get a slot.
func (q *Queue) nextClass() (best *class) {
	for i := range q.classes {
		c := &q.classes[i]
		if c.queued > 0 && q.available(i) && (best == nil || c.precedes(best)) {
			best = c
		}
	}
	return best
}

// precedes reports whether c uses less of its share than d. Among equals, the earlier turn counts.
func (c *class) precedes(d *class) bool {
	if mine, other := c.used*d.Weight, d.used*c.Weight; mine != other {
		return mine < other
	}
	return c.turn < d.turn
}

func (q *Queue) grant(c *class) {
	q.used++
	c.used++
	q.clock = max(q.clock, c.turn)
	c.turn = q.clock + 1/float64(c.Weight)
}

// enqueue appends a caller to the line of the key.
func (c *class) enqueue(key string, clock float64) (*waiter, error) {
	l := c.lines[key]
	length := 0
	if l != nil {
		length = l.length
	}
	if length >= c.MaxPerKey || c.queued >= c.MaxQueued && !c.evictFor(length) {
		return nil, ErrFull
	}
	if c.queued == 0 {
		c.turn = max(c.turn, clock) // an idle class saves up no turns
	}
	if l == nil {
		l = &line{key: key}
		c.lines[key] = l
		if c.next == nil {
			l.left, l.right = l, l
			c.next = l
		} else { // last in the round
			l.left, l.right = c.next.left, c.next
			l.left.right, l.right.left = l, l
		}
	}
	w := &waiter{done: make(chan struct{}), line: l, left: l.last}
	if l.last == nil {
		l.first = w
	} else {
		l.last.right = w
	}
	l.last = w
	c.resize(l, 1)
	return w, nil
}

// evictFor evicts the last caller of the longest line to make room in a line of a length. It reports false if the
// longest line would end up shorter.
func (c *class) evictFor(length int) bool {
	if c.longest <= length+1 {
		return false
	}
	w := c.byLength[c.longest].last
	c.remove(w)
	w.evicted = true
	close(w.done)
	return true
}

// dequeue removes the first caller of the line with the next turn, and advances the turn.
func (c *class) dequeue() *waiter {
	w := c.next.first
	c.next = c.next.right
	c.remove(w)
	return w
}

// remove removes a caller from the line, and an empty line from the ring.
func (c *class) remove(w *waiter) {
	l := w.line
	if w.left == nil {
		l.first = w.right
	} else {
		w.left.right = w.right
	}
	if w.right == nil {
		l.last = w.left
	} else {
		w.right.left = w.left
	}
	if c.resize(l, -1); l.length > 0 {
		return
	}
	delete(c.lines, l.key)
	if l.right == l {
		c.next = nil
		return
	}
	l.left.right, l.right.left = l.right, l.left
	if c.next == l {
		c.next = l.right
	}
}

// resize adds delta, 1 or -1, to the length of a line and moves the line to the list of the new length.
func (c *class) resize(l *line, delta int) {
	if l.length > 0 {
		if l.prev == nil {
			c.byLength[l.length] = l.next
		} else {
			l.prev.next = l.next
		}
		if l.next != nil {
			l.next.prev = l.prev
		}
	}
	c.queued += delta
	if l.length += delta; l.length > 0 {
		l.prev, l.next = nil, c.byLength[l.length]
		if l.next != nil {
			l.next.prev = l
		}
		c.byLength[l.length] = l
	}
	c.longest = max(c.longest, l.length)
	for c.longest > 0 && c.byLength[c.longest] == nil {
		c.longest--
	}
}
