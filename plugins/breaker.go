package plugins

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxGates bounds how many gates with recent failures one instance's breakers remember.
	maxGates = 256
	// gateMemory is how long a failure counts that no other call of its gate follows.
	gateMemory = time.Minute
)

// gate is what a breaker opens and closes. A failure concerns nothing else.
type gate struct {
	hook  Hook
	group string
	// part is the class that on_class renders for, and a hash of the user that on_subscribe decides about: one user's
	// subscription that fails must not deny those of others.
	part uint64
}

// breaker counts the failures of one gate.
type breaker struct {
	score   int   // failures less successes; the gate is set aside when it reaches the limit
	until   int64 // ticks until which it is set aside; 0: it is not
	probing bool  // that time is over, and one call is under way to try it again
	tries   int   // tries that failed
	last    int64 // ticks of the last failure
}

// breakers set hooks aside, group by group, whose calls fail more often than they succeed. They remember only gates
// with recent failures: while there are none, a call costs two atomic loads. Safe for concurrent use.
type breakers struct {
	limit    int
	cooldown time.Duration
	now      func() time.Time

	known atomic.Int32 // len(of), to be read without the lock
	mu    sync.Mutex
	of    map[gate]*breaker
	swept int64 // ticks of the last look for what can be forgotten
}

// allow tells whether a call may be made; after a true, done or giveUp must be called.
func (b *breakers) allow(g gate) bool {
	if b.known.Load() == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := ticks(b.now())
	b.sweep(now)
	br := b.of[g]
	if br == nil || br.until == 0 {
		return true
	}
	if now < br.until || br.probing {
		return false
	}
	br.probing = true
	return true
}

// giveUp ends what allow began without a result: the module was not asked, or the call says nothing of the gate.
func (b *breakers) giveUp(g gate) {
	if b.known.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if br := b.of[g]; br != nil {
		br.probing = false
	}
}

// succeeded reports a call that went well.
func (b *breakers) succeeded(g gate) {
	if b.known.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	br := b.of[g]
	if br == nil {
		return
	}
	if br.score--; br.until != 0 || br.score <= 0 {
		b.forget(g)
	}
}

// failed reports a call that failed, and returns for how long the gate is set aside for it; 0 if it is not, or is
// already.
func (b *breakers) failed(g gate) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := ticks(b.now())
	br := b.of[g]
	if br == nil {
		b.sweep(now)
		br = b.remember(g)
	}
	br.last = now
	if br.until != 0 { // a try failed, or a call that began before the gate was set aside
		if br.probing {
			br.probing = false
			br.tries++
			br.until = now + int64(b.pause(br.tries))
		}
		return 0
	}
	if br.score++; br.score < b.limit {
		return 0
	}
	br.until = now + int64(b.cooldown)
	return b.cooldown
}

// pause is how long a gate is set aside after a number of tries that failed.
func (b *breakers) pause(tries int) time.Duration { return b.cooldown << min(tries, 5) }

// remember makes room for a gate. Of too many, the one goes whose last failure is longest ago: then its plugin is asked
// again, and if it fails its policy answers, so that nothing passes for it.
func (b *breakers) remember(g gate) *breaker {
	if len(b.of) >= maxGates {
		var oldest gate
		var last int64
		for other, br := range b.of {
			if oldest == (gate{}) || br.last < last {
				oldest, last = other, br.last
			}
		}
		b.forget(oldest)
	}
	if b.of == nil {
		b.of = map[gate]*breaker{}
	}
	g.group = strings.Clone(g.group)
	br := &breaker{}
	b.of[g] = br
	b.known.Store(int32(len(b.of)))
	return br
}

func (b *breakers) forget(g gate) {
	delete(b.of, g)
	b.known.Store(int32(len(b.of)))
}

// sweep forgets gates without recent failures, now and then.
func (b *breakers) sweep(now int64) {
	if now-b.swept < int64(gateMemory)/4 {
		return
	}
	b.swept = now
	for g, br := range b.of {
		if now-max(br.last, br.until) > int64(gateMemory) && !br.probing {
			b.forget(g)
		}
	}
}

// SetAside is a hook that is not called for a group, because it failed there.
type SetAside struct {
	Hook  string `json:"hook"`
	Group string `json:"group"`
	// Trying tells that the time is over, and the next call tries it again.
	Trying bool `json:"trying,omitempty"`
}

// open appends what is set aside.
func (b *breakers) open(list []SetAside) []SetAside {
	if b.known.Load() == 0 {
		return list
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := ticks(b.now())
	for g, br := range b.of {
		if br.until != 0 {
			list = append(list, SetAside{g.hook.String(), g.group, br.probing || now >= br.until})
		}
	}
	return list
}
