package hub

import (
	"context"
	"sync"
)

// classifyAgain asks for the classes of a login's subscriptions, after a recheck and outside its place among the
// rechecks: rules that take long to decide must delay no other login's recheck. A login for which the rules are still
// being asked is left out.
func (h *Hub) classifyAgain(ctx context.Context, l *login, sessions []*Session) {
	if !h.rechecks.setAsking(l, true) {
		return
	}
	defer h.rechecks.setAsking(l, false)
	for _, s := range sessions {
		groups := map[uint64][]string{}
		for _, group := range s.classified() {
			generation := h.generation(group)
			groups[generation] = append(groups[generation], group)
		}
		for generation, list := range groups {
			leave, err := h.classifying.enter(ctx, generation)
			if err != nil {
				return
			}
			s.reclassify(ctx, list)
			leave()
		}
	}
}

// setAsking notes that a login's rules are being asked, and reports whether that is a change.
func (r *rechecks) setAsking(l *login, asking bool) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed = l.asking != asking
	l.asking = asking
	return changed
}

// turns bounds the sessions that are classified at once for the groups of the same rules. Methods are safe for
// concurrent use.
type turns struct {
	mu    sync.Mutex // guards slots and users
	slots map[uint64]*turn
}

// turn is for the rules of a generation.
type turn struct {
	taken chan struct{}
	users int
}

// enter waits for a turn, which leave ends.
func (t *turns) enter(ctx context.Context, generation uint64) (leave func(), err error) {
	t.mu.Lock()
	if t.slots == nil {
		t.slots = map[uint64]*turn{}
	}
	slot := t.slots[generation]
	if slot == nil {
		slot = &turn{taken: make(chan struct{}, reclassifyConcurrency)}
		t.slots[generation] = slot
	}
	slot.users++
	t.mu.Unlock()
	gone := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if slot.users--; slot.users == 0 {
			delete(t.slots, generation)
		}
	}
	select {
	case slot.taken <- struct{}{}:
		return func() { <-slot.taken; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, ctx.Err()
	}
}
