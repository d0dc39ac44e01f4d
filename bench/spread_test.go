//go:build linux

package main

import (
	"slices"
	"testing"
	"time"
)

// Whatever the numbers of groups and clients: a client is in exactly the groups whose events its step leads to.
func TestSpreadAgreesWithTheSteps(t *testing.T) {
	for _, c := range []struct{ groups, clients int }{{1, 5}, {2, 10}, {10, 10}, {50, 10}, {100, 1000}} {
		at := target{Group: benchGroup, Spread: c.groups, Of: c.clients}
		for place := range c.clients {
			groups := at.groupsOf(place)
			for n := range int64(3 * c.groups) {
				group := spreadGroup(int(n) % c.groups)
				if c.groups == 1 {
					group = benchGroup
				}
				due := n%at.step() == int64(place)%at.step()
				if slices.Contains(groups, group) != due {
					t.Fatalf("%+v: client %d in %v, event %d of %s, due %v", c, place, groups, n, group, due)
				}
			}
		}
	}
}

func TestReceiverKnowsItsOwnEvents(t *testing.T) {
	r := fakeReceiver(2)
	r.step = 2
	r.clients[1].next++
	r.begin(firstSeq+5, 1)
	for _, n := range []int64{0, 2, 4} {
		r.consume(0, numbered(firstSeq+n))
	}
	for _, n := range []int64{1, 5} { // 3 is lost
		r.consume(1, numbered(firstSeq+n))
	}
	if got := r.wait(time.Minute); got.Lost != 1 || got.Doubled != 0 || got.Behind != 0 || got.Messages != 5 {
		t.Errorf("%d lost, %d doubled, %d behind, %d messages", got.Lost, got.Doubled, got.Behind, got.Messages)
	}
}

func TestReceiverDoesNotWaitForSlowReaders(t *testing.T) {
	r := fakeReceiver(2)
	r.clients[1].slow, r.slow = true, 1
	r.begin(firstSeq+1<<30, 1)
	r.consume(0, numbered(firstSeq))
	r.cut(firstSeq)
	if got := r.wait(time.Minute); got.Behind != 0 || got.Messages != 1 {
		t.Errorf("%d behind, %d messages", got.Behind, got.Messages)
	}
}
