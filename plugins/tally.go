package plugins

import "time"

// tally counts the calls of a slot. The slot's lock guards the counters, so counting needs no atomic operation.
type tally struct {
	calls, fuel        uint64
	verdicts           [3]uint64 // of on_event, by Verdict
	emitted            uint64
	subscribes, denies uint64
	renders            uint64
	failures           [len(kinds)]uint64
	last               *Failure
	lastAt             time.Time
}

func (t *tally) add(o *tally) {
	t.calls += o.calls
	t.fuel += o.fuel
	for i := range t.verdicts {
		t.verdicts[i] += o.verdicts[i]
	}
	t.emitted += o.emitted
	t.subscribes += o.subscribes
	t.denies += o.denies
	t.renders += o.renders
	for i := range t.failures {
		t.failures[i] += o.failures[i]
	}
	if o.lastAt.After(t.lastAt) {
		t.last, t.lastAt = o.last, o.lastAt
	}
}

// total adds up the tallies of a module's slots.
func (m *module) total() (t tally) {
	for i := range m.slots {
		s := &m.slots[i]
		s.mu.Lock()
		t.add(&s.tally)
		s.mu.Unlock()
	}
	return t
}

// succeeded reports whether any call has succeeded.
func (t tally) succeeded() bool {
	return t.verdicts[Pass]+t.verdicts[Drop]+t.verdicts[Replace]+t.subscribes+t.renders > 0
}
