package hub

import (
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay"
)

// Sets of audience classes have bit c set for class c.
const (
	allClasses = ^uint64(0)
	plainClass = uint64(1) // class 0, the class without a plugin's decision
)

// audience is the subscriptions of a shard's sessions to a group. The shard's round guards all but the atomics.
type audience struct {
	subs    []subscriber
	classed map[uint64]int // number of subscriptions by class, without class 0; nil if all are of class 0
	others  int            // sum of classed
	present atomic.Uint64  // set of the classes in subs; read without the round

	events atomic.Uint32 // delivered to the audience; wraps around
	seen   atomic.Uint32 // value of events when MeasureGroups last ran
	rate   atomic.Uint32 // events a second before that; bits of a float32
}

// subscriber is a subscription with the socket at hand: the worker visits all subscribers, and each further pointer
// would be a cache miss.
type subscriber struct {
	socket relay.Socket
	*subscription
}

// subscription is a session's entry in an audience.
type subscription struct {
	session  *Session
	audience *audience
	group    string
	at       int    // index in audience.subs
	class    uint64 // a set of classes with a single bit
}

// reach returns the number of subscribers of some classes. The shard's round is held.
func (a *audience) reach(classes uint64) int {
	if classes == allClasses || a.others == 0 && classes&plainClass != 0 {
		return len(a.subs)
	}
	n := 0
	if classes&plainClass != 0 {
		n = len(a.subs) - a.others
	}
	for class, count := range a.classed {
		if classes&class != 0 {
			n += count
		}
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

// enter counts a new subscription of a class. The shard's round is held.
func (a *audience) enter(class uint64) {
	if class != plainClass {
		if a.classed == nil {
			a.classed = map[uint64]int{}
		}
		a.classed[class]++
		a.others++
	}
	a.updatePresent()
}

// leave stops counting a subscription of a class. The shard's round is held.
func (a *audience) leave(class uint64) {
	if class != plainClass {
		decrement(a.classed, class)
		a.others--
	}
	a.updatePresent()
}

func (a *audience) updatePresent() {
	var present uint64
	if len(a.subs) > a.others {
		present = plainClass
	}
	for class := range a.classed {
		present |= class
	}
	a.present.Store(present)
}
