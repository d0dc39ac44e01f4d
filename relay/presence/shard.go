package presence

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// callTimeout bounds a call to the store.
	callTimeout = 5 * time.Second
	// retryPause is the time after a failed call.
	retryPause = 500 * time.Millisecond
)

// shard is this node's part of a shard of the store.
type shard struct {
	tracker *Tracker
	index   int
	wake    chan struct{}

	// Of the goroutine in run.
	phase        phase
	registration Registration
	emptied      bool // the store has lost its contents since the last comparison
	tended       time.Time

	trouble atomic.Pointer[string] // why the store cannot be used; nil: it can

	mu      sync.Mutex // guards all below
	members map[Key]*member
	groups  map[string]int   // number of members
	queued  []*member        // to be compared with the store
	answers []Change         // claims, acknowledgements and expiries
	leaving map[*member]bool // without connections
	// entered counts members that were queued, written those of them that were written; progress is closed and replaced
	// when written grows.
	entered, written uint64
	progress         chan struct{}
}

func newShard(t *Tracker, index int) *shard {
	return &shard{
		tracker: t, index: index, wake: make(chan struct{}, 1), members: map[Key]*member{}, groups: map[string]int{},
		leaving: map[*member]bool{}, progress: make(chan struct{}),
	}
}

func (s *shard) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run keeps the store up to date until ctx ends.
func (s *shard) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := s.step(ctx)
		if wait == 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wakeIf(s.phase == current):
		}
		timer.Stop()
	}
}

// wakeIf returns the channel that wakes run, or nil while a fault makes it pause.
func (s *shard) wakeIf(healthy bool) <-chan struct{} {
	if healthy {
		return s.wake
	}
	return nil
}

// step does the most urgent thing, and returns the time to wait afterwards.
func (s *shard) step(parent context.Context) (wait time.Duration) {
	ctx, cancel := context.WithTimeout(parent, callTimeout)
	defer cancel()
	var err error
	before := s.phase
	switch s.phase {
	case unregistered:
		err = s.register(ctx)
	case comparing:
		err = s.fetchHeld(ctx)
	case current:
		if b := s.take(); b.taken > 0 || len(b.changes) > 0 {
			err = s.write(ctx, &b)
			break
		}
		if due := time.Until(s.tended.Add(s.tracker.interval)); due > 0 {
			return due
		}
		err = s.tend(ctx)
		s.tended = time.Now().Add(-rand.N(s.tracker.interval / 8)) // Nodes do not tend at the same time.
	}
	if parent.Err() != nil {
		return 0
	}
	s.report(err)
	if err != nil || before == current && s.phase == unregistered {
		if err != nil {
			return retryPause/2 + rand.N(retryPause)
		}
	}
	return 0
}

// register makes the node known.
func (s *shard) register(ctx context.Context) error {
	before := s.registration
	before.Node = s.tracker.node
	r, err := s.tracker.store.Register(ctx, s.index, before)
	if err != nil {
		return err
	}
	s.registration, s.emptied = r.Registration, s.emptied || r.Emptied
	s.phase = s.phase.next(done)
	return nil
}

// fetchHeld reads which members the store has for this node, and compares.
func (s *shard) fetchHeld(ctx context.Context) error {
	held := map[Key]bool{}
	for cursor := uint64(0); ; {
		keys, next, err := s.tracker.store.Held(ctx, s.index, s.tracker.node, cursor, 1000)
		if err != nil {
			s.phase = s.phase.next(failed)
			return err
		}
		for _, k := range keys {
			held[k] = true
		}
		if cursor = next; next == 0 {
			break
		}
	}
	s.compare(held, s.emptied)
	s.emptied = false
	s.phase = s.phase.next(done)
	return nil
}

// write writes a batch.
func (s *shard) write(ctx context.Context, b *batch) error {
	if len(b.changes) == 0 {
		s.commit(b)
		return nil
	}
	c, err := s.change(ctx, s.tracker.node, b.changes)
	if err != nil || !c.Known {
		s.undo(b)
		return err
	}
	s.commit(b)
	return nil
}

// change writes changes to the store and has the announcements published.
func (s *shard) change(ctx context.Context, of string, changes []Change) (c Changed, err error) {
	c, err = s.tracker.store.Change(ctx, s.index, s.registration, of, changes)
	switch {
	case err != nil:
		s.phase = s.phase.next(failed)
		return c, err
	case !c.Known:
		s.phase = s.phase.next(refused)
		return c, nil
	}
	s.registration.Calls++
	for _, a := range c.Announcements {
		s.tracker.announce(s, a)
	}
	if c.Queued > 0 {
		s.tracker.stats.callsQueued.Add(uint64(c.Queued))
		s.tracker.calls.kick(s.index)
	}
	if c.Dropped > 0 && s.tracker.stats.callsDropped.Add(uint64(c.Dropped)) == uint64(c.Dropped) {
		s.tracker.log.Warn("webhook queue full, old entries dropped", "count", c.Dropped,
			"remedy", "see why the site does not answer the webhooks of presence")
	}
	return c, nil
}

// tend renews the lease and does the work that is due.
func (s *shard) tend(ctx context.Context) error {
	s.forgetGone()
	t, err := s.tracker.store.Tend(ctx, s.index, s.registration, batchSize)
	switch {
	case err != nil:
		return err
	case !t.Known:
		s.phase = s.phase.next(refused)
		return nil
	}
	s.mu.Lock()
	for _, key := range t.Expired {
		s.answers = append(s.answers, Change{Op: OpExpire, Key: key})
	}
	for _, a := range t.Unclaimed {
		s.answers = append(s.answers, Change{Op: OpClaim, Key: a.Key, Kind: a.Kind})
	}
	s.mu.Unlock()
	for _, node := range t.Dead {
		if err := s.expel(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

// expel releases the members of a node whose lease has ended.
func (s *shard) expel(ctx context.Context, node string) error {
	for count := 0; s.phase == current; {
		keys, _, err := s.tracker.store.Held(ctx, s.index, node, 0, batchSize)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			if count > 0 {
				s.tracker.log.Info("dead node removed from presence", "node", node, "count", count)
			}
			return s.tracker.store.Remove(ctx, s.index, node)
		}
		changes := make([]Change, len(keys))
		for i, k := range keys {
			changes[i] = Change{Op: OpRelease, Key: k}
		}
		if c, err := s.change(ctx, node, changes); err != nil || !c.Known {
			return err
		}
		count += len(keys)
		s.tracker.stats.expelled.Add(uint64(len(keys)))
	}
	return nil
}

// report logs changes of the store's state.
func (s *shard) report(err error) {
	switch {
	case err != nil:
		s.tracker.stats.storeFailed.Add(1)
		text := err.Error()
		if s.trouble.Swap(&text) == nil {
			s.tracker.log.Warn("presence unavailable", "error", err,
				"effect", "joins and leaves are announced when the channel layer answers again",
				"remedy", "see docs/presence.md for the rights that the redis user needs")
		}
	case s.trouble.Swap(nil) != nil:
		s.tracker.log.Info("presence recovered")
	}
}
