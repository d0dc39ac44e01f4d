// Package fairqueue shares a bounded number of slots among classes of work by weight, and within a class among keys,
// one after the other. A flood of one class or of one key delays no other by more than the work that is in flight
// already.
//
// An authorizer that asks another service holds a slot for each request: see package awx.
package fairqueue

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrFull is returned to a caller for whom there is no place in the queue, or no slot within the wait of its class.
var ErrFull = errors.New("the queue is full")

// keepFrom is from how many slots for each class one slot of every idle class is never lent. With fewer, lending is
// worth more.
const keepFrom = 4

// Class is one kind of work.
type Class struct {
	// Weight is the class's share of the slots while all classes have work. What a class does not use is lent to the
	// others, and comes back with the first slot that is released.
	Weight int
	// PerKey and Total bound how many callers may wait, with one key and in all. When all places are taken, the caller
	// that came last of those with the longest line gives its place up to one with a shorter line.
	PerKey, Total int
	// Wait is how long a caller waits at most.
	Wait time.Duration
}

// Queue hands out slots. All methods may be called concurrently.
type Queue struct {
	mu      sync.Mutex // guards all below, and the classes
	slots   int
	used    int
	keep    bool // one slot of each idle class is never lent
	clock   float64
	classes []class
}

// class is the state of a [Class].
type class struct {
	Class
	used, waiting int
	pass          float64 // virtual time of its next turn; breaks ties, so that few slots go round
	lines         map[string]*line
	next          *line   // whose turn it is; the lines form a ring
	byLength      []*line // the lines of each length
	longest       int
}

// line is the callers that wait with one key, first come, first served. A line that is empty is removed.
type line struct {
	key         string
	first, last *waiter
	length      int
	left, right *line // in the ring
	prev, next  *line // of those of the same length
}

type waiter struct {
	decided     chan struct{} // closed when it has a slot, or has lost its place
	lost        bool          // set before decided is closed
	line        *line
	left, right *waiter
}

// New returns a queue for slots, one at least.
func New(slots int, classes ...Class) *Queue {
	q := &Queue{slots: max(slots, 1)}
	q.keep = q.slots >= keepFrom*len(classes)
	for _, c := range classes {
		c.Weight = max(c.Weight, 1)
		q.classes = append(q.classes, class{Class: c, lines: map[string]*line{}, byLength: make([]*line, c.PerKey+2)})
	}
	return q
}

// Slots is how many slots there are.
func (q *Queue) Slots() int { return q.slots }

// Waiting returns how many callers of each class wait.
func (q *Queue) Waiting() []int {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]int, len(q.classes))
	for i := range q.classes {
		list[i] = q.classes[i].waiting
	}
	return list
}

// Acquire waits for a slot, to be given back with Release of the same class. It returns ErrFull, or ctx's error; a
// caller that gives up leaves its place to the next.
func (q *Queue) Acquire(ctx context.Context, class int, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	c := &q.classes[class]
	if c.waiting == 0 && q.available(class) {
		q.grant(c)
		q.mu.Unlock()
		return nil
	}
	w, err := c.join(key, q.clock)
	q.mu.Unlock()
	if err != nil {
		return err
	}
	timer := time.NewTimer(c.Wait)
	defer timer.Stop()
	select {
	case <-w.decided:
		return w.err()
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = ErrFull
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.decided: // meanwhile
		if w.lost || ctx.Err() == nil {
			return w.err()
		}
		q.release(class)
	default:
		c.remove(w)
	}
	return err
}

// err is what a caller gets once it is decided about.
func (w *waiter) err() error {
	if w.lost {
		return ErrFull
	}
	return nil
}

// Release gives a slot back.
func (q *Queue) Release(class int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.release(class)
}

func (q *Queue) release(class int) {
	q.used--
	q.classes[class].used--
	for q.used < q.slots {
		next := q.choose()
		if next == nil {
			return
		}
		q.grant(next)
		close(next.pop().decided)
	}
}

// available reports whether a class may have one more slot: there is a free one that is not kept for another.
func (q *Queue) available(class int) bool {
	free := q.slots - q.used
	if q.keep {
		for i := range q.classes {
			if i != class && q.classes[i].used == 0 {
				free--
			}
		}
	}
	return free > 0
}

// choose returns the class with callers that wait which has least of its share, nil if none may have a slot.
func (q *Queue) choose() (best *class) {
	for i := range q.classes {
		c := &q.classes[i]
		if c.waiting > 0 && q.available(i) && (best == nil || c.before(best)) {
			best = c
		}
	}
	return best
}

// before compares what two classes have of their shares; of equals, the one whose turn is longer ago is first.
func (c *class) before(d *class) bool {
	if mine, other := c.used*d.Weight, d.used*c.Weight; mine != other {
		return mine < other
	}
	return c.pass < d.pass
}

func (q *Queue) grant(c *class) {
	q.used++
	c.used++
	q.clock = max(q.clock, c.pass)
	c.pass = q.clock + 1/float64(c.Weight)
}

// join puts a caller at the end of its key's line.
func (c *class) join(key string, clock float64) (*waiter, error) {
	l := c.lines[key]
	length := 0
	if l != nil {
		length = l.length
	}
	if length >= c.PerKey || c.waiting >= c.Total && !c.evict(length) {
		return nil, ErrFull
	}
	if c.waiting == 0 {
		c.pass = max(c.pass, clock) // a class that was idle has saved nothing up
	}
	if l == nil {
		l = &line{key: key}
		c.lines[key] = l
		if c.next == nil {
			l.left, l.right = l, l
			c.next = l
		} else { // the last in the round
			l.left, l.right = c.next.left, c.next
			l.left.right, l.right.left = l, l
		}
	}
	w := &waiter{decided: make(chan struct{}), line: l, left: l.last}
	if l.last == nil {
		l.first = w
	} else {
		l.last.right = w
	}
	l.last = w
	c.resize(l, 1)
	return w, nil
}

// evict has the last caller of the longest line lose its place, if that line stays longer than one of a length becomes.
func (c *class) evict(length int) bool {
	if c.longest <= length+1 {
		return false
	}
	w := c.byLength[c.longest].last
	c.remove(w)
	w.lost = true
	close(w.decided)
	return true
}

// pop takes the first caller of the line whose turn it is, and passes the turn on.
func (c *class) pop() *waiter {
	w := c.next.first
	c.next = c.next.right
	c.remove(w)
	return w
}

// remove takes a caller out of its line, and a line out of the ring with its last caller.
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

// resize notes that a line has one caller more or less.
func (c *class) resize(l *line, by int) {
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
	c.waiting += by
	if l.length += by; l.length > 0 {
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
