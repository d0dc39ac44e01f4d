// Package fairqueue shares a bounded number of slots among classes of work by weight, and within a class among keys, one after the
// other. A flood of one class or of one key delays no other by more than the work that is in flight already.
//
// An authorizer that asks a service of somebody else's holds a slot for each request: see package awx.
package fairqueue

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrFull is returned to a caller for whom there is no place in the queue, or no slot within the wait of its class.
var ErrFull = errors.New("the queue is full")

// keepFrom is from how many slots for each class one slot of every idle class is never lent. With fewer, lending is worth more.
const keepFrom = 4

// Class is one kind of work.
type Class struct {
	// Weight is the class's share of the slots while all classes have work. What a class does not use is lent to the others, and comes
	// back with the first slot that is released.
	Weight int
	// PerKey and Total bound how many callers may wait, with one key and in all.
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
	next          *line // whose turn it is; the lines form a ring
}

// line is the callers that wait with one key, first come, first served. A line that is empty is removed.
type line struct {
	key         string
	first, last *waiter
	length      int
	left, right *line
}

type waiter struct {
	granted chan struct{}
	left    *waiter
	right   *waiter
}

// New returns a queue for slots, one at least.
func New(slots int, classes ...Class) *Queue {
	q := &Queue{slots: max(slots, 1)}
	q.keep = q.slots >= keepFrom*len(classes)
	for _, c := range classes {
		c.Weight = max(c.Weight, 1)
		q.classes = append(q.classes, class{Class: c, lines: map[string]*line{}})
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

// Acquire waits for a slot, to be given back with Release of the same class. It returns ErrFull, or ctx's error; a caller that gives up
// leaves its place to the next.
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
	case <-w.granted:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = ErrFull
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.granted: // meanwhile
		if ctx.Err() == nil {
			return nil
		}
		q.release(class)
	default:
		c.leave(key, w)
	}
	return err
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
		close(next.pop().granted)
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
	if c.waiting >= c.Total || l != nil && l.length >= c.PerKey || c.PerKey <= 0 {
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
	w := &waiter{granted: make(chan struct{}), left: l.last}
	if l.last == nil {
		l.first = w
	} else {
		l.last.right = w
	}
	l.last = w
	l.length++
	c.waiting++
	return w, nil
}

// pop takes the first caller of the line whose turn it is, and passes the turn on.
func (c *class) pop() *waiter {
	l := c.next
	c.next = l.right
	w := l.first
	c.remove(l, w)
	return w
}

// leave takes a caller that gives up out of its line.
func (c *class) leave(key string, w *waiter) { c.remove(c.lines[key], w) }

func (c *class) remove(l *line, w *waiter) {
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
	c.waiting--
	if l.length--; l.length > 0 {
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
