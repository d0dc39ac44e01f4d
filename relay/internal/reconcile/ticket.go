package reconcile

import (
	"context"
	"slices"
	"sync"
)

// Ticket is a caller's wait for entries, of any number of Sets. The zero value waits for none.
type Ticket[V any] struct {
	entries []*Entry[V] // entries that were not in place
	left    int         // entries to wait for
	done    chan struct{}
}

// wait makes the ticket wait for an entry.
func (t *Ticket[V]) wait(e *Entry[V]) {
	if slices.Contains(e.waiting, t) {
		return
	}
	if t.done == nil {
		t.done = make(chan struct{})
	}
	t.left++
	e.waiting = append(e.waiting, t)
}

func (t *Ticket[V]) answered() {
	if t.left--; t.left == 0 {
		close(t.done)
	}
}

// Wait returns once all entries are placed, faulty or dropped, or with ctx's error. Then the caller gets its answer
// early, and End reports the late join of each entry. mu is the mutex of the Sets; the caller must not hold it.
func (t *Ticket[V]) Wait(ctx context.Context, mu sync.Locker) error {
	if t.done == nil {
		return nil
	}
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	t.cancel()
	return ctx.Err()
}

// cancel ends the wait. Entries must not hold on to the tickets of callers that are gone while a destination is away.
func (t *Ticket[V]) cancel() {
	for _, e := range t.entries {
		i := slices.Index(e.waiting, t)
		if i < 0 {
			continue
		}
		e.waiting = slices.Delete(e.waiting, i, i+1)
		e.late = e.wanted && !e.InPlace() && !e.lapsed
	}
	t.left = 0
}

// Faulty returns the faulty entries of the ticket.
func (t *Ticket[V]) Faulty() (faulty []*Entry[V]) {
	for _, e := range t.entries {
		if e.fault.err != nil {
			faulty = append(faulty, e)
		}
	}
	return faulty
}
