//go:build soak

package soak

import (
	"fmt"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// fate is the outcome of publishing an event.
type fate struct {
	at      time.Time // before it was sent
	done    time.Time
	err     error
	receipt relay.Receipt
	quiet   bool // the plugin drops it
	arrived bool
}

// ledger accounts for the events of one group.
type ledger struct {
	group string
	near  func(time.Time) string // describes the faults near a time

	mu     sync.Mutex
	events []fate
	next   int // the least number that may arrive
	faults []string
}

// publish records the next event and sends it by send.
func (l *ledger) publish(quiet bool, send func(n int) (relay.Receipt, error)) {
	l.mu.Lock()
	n := len(l.events)
	l.events = append(l.events, fate{at: time.Now(), quiet: quiet})
	l.mu.Unlock()
	receipt, err := send(n)
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.events[n]
	e.done, e.receipt, e.err = time.Now(), receipt, err
}

// arrive records an event that the group's witness received.
func (l *ledger) arrive(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	switch {
	case n < 0 || n >= len(l.events):
		l.fault(now, "event %d was never sent", n)
	case l.events[n].arrived:
		l.fault(now, "event %d came twice", n)
	case n < l.next:
		l.fault(now, "event %d came after %d", n, l.next-1)
	case l.events[n].quiet:
		l.fault(now, "event %d came although the plugin drops it", n)
	default:
		l.events[n].arrived, l.next = true, n+1
	}
}

// fault records a fault of the group's witness. l.mu is held.
func (l *ledger) fault(at time.Time, format string, args ...any) {
	if len(l.faults) < 10 {
		l.faults = append(l.faults, fmt.Sprintf("%s the witness of %s: %s\n\t%s", at.Format("15:04:05.000"), l.group,
			fmt.Sprintf(format, args...), l.near(at)))
	}
}

// account counts the events of a group by outcome.
type account struct {
	published, delivered, plugin, refused, withRedis, full, unknown int
}

func (a *account) add(b account) {
	a.published += b.published
	a.delivered += b.delivered
	a.plugin += b.plugin
	a.refused += b.refused
	a.full += b.full
	a.withRedis += b.withRedis
	a.unknown += b.unknown
}

// close returns the account and the faults. An event that did not arrive has another reason, or is unknown. lost
// reports whether Redis may have lost an event in transit, or its group's members.
func (l *ledger) close(lost func(fate) bool) (a account, faults []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, e := range l.events {
		a.published++
		switch {
		case e.arrived:
			a.delivered++
		case e.err != nil:
			a.refused++
		case lost(e):
			a.withRedis++
		case e.receipt.OverCapacity > 0:
			a.full++
		case e.quiet && e.receipt.Members > 0:
			a.plugin++
		default:
			a.unknown++
			l.fault(e.at, "event %d, sent to %d members, is lost", n, e.receipt.Members)
		}
	}
	return a, l.faults
}
