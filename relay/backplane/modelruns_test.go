package backplane_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/ring"
)

// seeds returns the number of runs of a model: that of the environment, or the given one.
func seeds(count uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("EDGERELAY_TEST_SEEDS"), 10, 32); err == nil {
		return n
	}
	return count
}

// runs executes a model for many seeds.
func runs(t *testing.T, count uint64, limit int, do func(m *model)) {
	for seed := range count {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed, limit)
				if do(m); t.Failed() {
					t.Log(strings.Join(m.trace, "\n"))
				}
			})
		})
	}
}

// Links break and stall at random, for up to the age of the queue and within its bytes: nothing is lost, doubled or
// out of order, and no loss is told.
func TestModelOfOutages(t *testing.T) {
	runs(t, seeds(20), 0, func(m *model) {
		for range 60 {
			if m.step(modelAge, 200) {
				m.settle(10 * time.Second) // the next outage begins with empty queues
			}
		}
		m.finish()
		for _, n := range m.nodes {
			if missing, groups := n.once(); missing != 0 {
				m.t.Errorf("%s: %d events of %q did not come", n.name, missing, groups)
			}
			if len(n.told.of) != 0 || len(n.told.times) != 0 {
				m.t.Errorf("%s was told of losses: %v; dropped: %v", n.name, n.told.times, n.dropped)
			}
		}
	})
}

// Outages are longer than the age of the queue, by minutes. The histories have what the queues have dropped: nothing is
// lost, doubled or out of order, nothing counts as lost, and no history is marked as incomplete.
func TestModelOfLongOutages(t *testing.T) {
	fetched := 0
	runs(t, seeds(20), 0, func(m *model) {
		for _, n := range m.nodes {
			n.history.forgetMarks()
		}
		for range 40 {
			if m.step(8*time.Minute, 200) {
				m.settle(10 * time.Second) // the next outage begins with a link
			}
		}
		m.finish()
		for _, n := range m.nodes {
			if missing, groups := n.once(); missing != 0 {
				m.t.Errorf("%s: %d events of %q did not come", n.name, missing, groups)
			}
			if lost := n.lost(); lost != 0 || n.told.told[relay.LossPeer] != 0 || n.history.marks != 0 {
				m.t.Errorf("%s: %d events count as lost, %v were told, %d groups are marked: %v",
					n.name, lost, n.told.told, n.history.marks, n.dropped)
			}
		}
		fetched += strings.Count(strings.Join(m.trace, "\n"), "dropped events fetched from the history")
	})
	if t.Logf("%d times events were fetched", fetched); fetched == 0 {
		t.Error("no events are fetched from a history")
	}
}

// As before, with real histories in memory. Each node gets events of the other one late, which are gaps of its
// history and concern no event of its own.
func TestModelOfLongOutagesInMemory(t *testing.T) {
	limits := relay.HistoryLimits{Count: 10_000, Bytes: 10 << 20, Age: time.Hour}
	policy := relay.HistoryPolicy{Rules: []relay.HistoryRule{{Pattern: "*", HistoryLimits: limits}}}
	fetched := 0
	runs(t, seeds(10), 0, func(m *model) {
		for _, n := range m.nodes {
			n.told.SetHistory(ring.New(policy, time.Now))
		}
		for range 40 {
			if m.step(8*time.Minute, 200) {
				m.settle(10 * time.Second)
			}
		}
		m.finish()
		for _, n := range m.nodes {
			if missing, groups := n.once(); missing != 0 || n.lost() != 0 {
				m.t.Errorf("%s: %d events of %q did not come, %d count as lost", n.name, missing, groups, n.lost())
			}
		}
		fetched += strings.Count(strings.Join(m.trace, "\n"), "dropped events fetched from the history")
	})
	if fetched == 0 {
		t.Error("no events are fetched from a history")
	}
}

// Outages are longer than the age of the queue, and the queue overflows; in every other run, histories keep few events.
// What is neither in a queue nor in a history is lost: every loss is counted and told exactly, once.
func TestModelOfLosses(t *testing.T) {
	lost, seed := 0, 0
	reasons := map[string]uint64{}
	runs(t, seeds(20), 20_000, func(m *model) {
		for _, n := range m.nodes {
			n.history.keep(seed % 2 * 10)
		}
		seed++
		for range 60 {
			m.step(4*time.Minute, 600)
		}
		m.finish()
		for _, n := range m.nodes {
			from := m.other(n)
			missing, groups := n.once()
			told := n.told.told[relay.LossPeer]
			counted := from.lost()
			if told != missing || counted != missing {
				m.t.Errorf("%s: %d events did not come, %d were told, %d counted: %v", n.name, missing, told, counted, from.dropped)
			}
			for _, g := range groups {
				if !n.told.of[g] {
					m.t.Errorf("%s: nobody was told of losses in %s", n.name, g)
				}
			}
			lost += missing
			for why, count := range from.dropped {
				reasons[why] += count
			}
		}
	})
	t.Logf("%d events were lost: %v", lost, reasons)
	if lost == 0 || reasons["expired"] == 0 || reasons["queue_full"] == 0 {
		t.Error("the model loses nothing")
	}
}

// Nodes restart at random, too: no event is doubled or out of order. In every other run, one of the nodes never
// restarts: its clients are told of each group with missing events.
func TestModelOfRestarts(t *testing.T) {
	runs(t, seeds(20), 20_000, func(m *model) {
		restarting := 1 + m.random.IntN(2)
		for range 40 {
			if m.random.IntN(6) == 0 {
				n, kill := m.nodes[m.random.IntN(restarting)], m.random.IntN(2) == 0
				m.note("restart of %s, kill: %v", n.name, kill)
				n.stop(kill)
				time.Sleep(time.Duration(m.random.IntN(3000)) * time.Millisecond)
				n.start()
				n.restarts++
			}
			m.step(2*time.Minute, 300)
		}
		m.finish()
		for _, n := range m.nodes {
			_, groups := n.once()
			for _, g := range groups {
				if n.restarts == 0 && !n.told.of[g] && !n.told.of[""] {
					m.t.Errorf("%s: nobody was told of losses in %s", n.name, g)
				}
			}
		}
	})
}

// A node stops right after events have arrived, or have left: both sides acknowledge them before, and none counts as
// lost.
func TestStopAcknowledges(t *testing.T) {
	for i, name := range []string{"the sender", "the receiver"} {
		t.Run(name, func(t *testing.T) {
			runs(t, 1, 0, func(m *model) {
				m.nodes[0].emit(10, 1)
				m.settle(10 * time.Millisecond)
				m.nodes[i].stop(false)
				m.settle(time.Second)
				m.nodes[1-i].stop(false)
				if missing, _ := m.nodes[1].once(); missing > 0 {
					m.t.Errorf("%d events did not come", missing)
				}
				if n := m.nodes[0].dropped["link_lost"]; n > 0 {
					m.t.Errorf("%d events count as lost", n)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// A node starts, and the peer that it awaits comes long after that. Clients of the run before, which have not returned
// yet, may have missed the peer's events.
func TestAwaitedPeerComesLate(t *testing.T) {
	runs(t, 1, 0, func(m *model) {
		for _, n := range m.nodes {
			n.stop(false)
		}
		n := m.nodes[1]
		n.history.gapsOfAll.Store(0)
		n.start()
		m.settle(2 * modelAge)
		if got := n.history.gapsOfAll.Load(); got != 0 {
			m.t.Fatalf("%d gaps of all groups before the first link", got)
		}
		m.nodes[0].start()
		m.settle(10 * time.Second)
		if got := n.history.gapsOfAll.Load(); got != 1 {
			m.t.Errorf("%d gaps of all groups, want 1", got)
		}
		m.finish()
	})
}

// A node is killed and starts again. Its peer keeps nothing for the run before: no event for that run expires later.
func TestFormerRunIsEnded(t *testing.T) {
	for i, name := range []string{"dials the link that stays", "or not"} {
		t.Run(name, func(t *testing.T) {
			runs(t, 2, 0, func(m *model) {
				killed, n := m.nodes[i], m.nodes[1-i]
				killed.stop(true)
				m.settle(time.Second)
				killed.start()
				m.settle(10 * time.Second)
				n.emit(50, 1)
				m.settle(3 * modelAge)
				if count := n.plane.Stats().Dropped["expired"]; count != 0 {
					m.t.Errorf("%d events for the run before have expired", count)
				}
				m.finish()
			})
		})
	}
}
