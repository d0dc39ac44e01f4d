package hub

import (
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay"
)

// allClasses is the set of all audience classes. Sets of classes have bit c set for class c.
const allClasses = ^uint64(0)

// audience is the subscriptions of a shard's sessions to a group. The shard's round guards all but the atomics.
type audience struct {
	subs []subscriber
	// others counts the subscriptions without the usual classification. An audience without others needs no map.
	others          map[relay.Classification]int
	usualGeneration uint64
	// present is the set of the classes in subs, of all generations; read without the round.
	present atomic.Uint64

	events     atomic.Uint32 // delivered to the audience; wraps around
	seen       atomic.Uint32 // value of events when MeasureGroups last ran
	rate       atomic.Uint32 // events a second before that; bits of a float32
	usualClass uint8
	// deflates is set once a subscriber has agreed on compression. To change it, the round and the shard's mu are held.
	deflates bool
}

// usual is the classification of the subscriptions that others does not count.
func (a *audience) usual() relay.Classification {
	return relay.Classification{Class: a.usualClass, Generation: a.usualGeneration}
}

// subscriber is a subscription with the socket at hand: the worker visits all subscribers, and each further pointer
// would be a cache miss.
type subscriber struct {
	socket relay.Socket
	*subscription
}

// subscription is a session's entry in an audience. The shard's round guards at and the classification; while the round
// is held to change the classification, so is the session's mu, which is therefore enough to read it.
type subscription struct {
	session    *Session
	audience   *audience
	group      string
	generation uint64 // of class
	at         int32  // index in audience.subs; pendingAt before the subscription begins
	class      uint8
	granted    bool // rechecks do not concern it
}

// pendingAt is the index of a subscription that has not begun.
const pendingAt = -1

func (s *subscription) classification() relay.Classification {
	return relay.Classification{Class: s.class, Generation: s.generation}
}

// toAll reports whether the job is for all subscribers, whatever their class.
func (j *job) toAll() bool { return j.classes == allClasses && j.generation == 0 }

// concerns reports whether the job is for subscribers with a classification.
func (j *job) concerns(c relay.Classification) bool {
	return j.generation == c.Generation && j.classes>>c.Class&1 != 0
}

// isFor reports whether the job is for a subscriber.
func (j *job) isFor(s *subscription) bool {
	return (j.toAll() || j.concerns(s.classification())) && (j.except == 0 || j.except != s.session.id)
}

// misses reports whether the job, which is not for a subscriber, would be if the class had not been decided by other
// rules, or later.
func (j *job) misses(s *subscription) bool {
	return (j.generation != s.generation || j.decided>>s.class&1 == 0) && (j.except == 0 || j.except != s.session.id)
}

// reach returns the number of subscribers that a job is for. The shard's round is held.
func (a *audience) reach(j *job) (n int) {
	if j.toAll() {
		return len(a.subs)
	}
	for c, count := range a.others {
		if j.concerns(c) {
			n += count
		}
	}
	if j.concerns(a.usual()) {
		n += a.usualCount()
	}
	return n
}

// usualCount returns the number of subscriptions with the usual classification.
func (a *audience) usualCount() int {
	n := len(a.subs)
	for _, count := range a.others {
		n -= count
	}
	return n
}

// presentIn returns the set of the classes in audiences.
func presentIn(as []*audience) (classes uint64) {
	for _, a := range as {
		if a != nil {
			classes |= a.present.Load()
		}
	}
	return classes
}

// enter counts the subscription that was added to subs last. The shard's round is held, as in the methods below.
func (a *audience) enter(c relay.Classification) {
	if len(a.subs) == 1 {
		a.usualClass, a.usualGeneration = c.Class, c.Generation
	}
	a.count(c, 1)
}

// leave stops counting a subscription that was removed from subs.
func (a *audience) leave(c relay.Classification) { a.count(c, -1) }

// change counts a subscription with another classification than before.
func (a *audience) change(before, after relay.Classification) {
	a.count(before, -1)
	a.count(after, 1)
}

// count adds n to the number of subscriptions with a classification. Those with the usual one are all that others does
// not count.
func (a *audience) count(c relay.Classification, n int) {
	if c != a.usual() {
		if a.others == nil {
			a.others = map[relay.Classification]int{}
		}
		if a.others[c] += n; a.others[c] == 0 {
			delete(a.others, c)
		}
		if len(a.others) == 0 {
			a.others = nil
		}
	}
	usual := a.usualCount()
	if usual == 0 && len(a.others) == 1 { // all have another classification: it becomes the usual one
		for c := range a.others {
			a.usualClass, a.usualGeneration = c.Class, c.Generation
		}
		a.others, usual = nil, len(a.subs)
	}
	var present uint64
	if usual > 0 {
		present = 1 << a.usualClass
	}
	for c := range a.others {
		present |= 1 << c.Class
	}
	a.present.Store(present)
}
