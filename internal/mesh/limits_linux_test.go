package mesh

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/internal/mesh/result"
)

// limits are the promises of a scenario. No event may be doubled or reordered in any.
type limits struct {
	// lossy: events may be lost; each is told to its clients and counted by the sender. A run that ended need not have
	// counted those of its last second.
	lossy bool
	// foreign: some nodes do not count losses. foreignLossy: events to and from them may be lost, even if the scenario is
	// not lossy.
	foreign, foreignLossy bool
	// told: clients may be told of an outage that lasts, although they get its events later.
	told bool
	// closing: clients may be closed, as the scenario ends their node.
	closing bool
	// back bounds the time from a repair to the next event, gap that without an event, late the lateness; 0: no bound.
	back, gap, late time.Duration
}

// lossReasons are the reasons of dropped_total that stand for events which a peer did not get.
var lossReasons = []string{"queue_full", "expired", "link_lost"}

// count reads the counters of the nodes that count losses.
func (p *played) count() (counted map[string]int) {
	counted = map[string]int{}
	for _, n := range p.Nodes {
		samples := n.Counters()
		sum := 0
		for _, reason := range lossReasons {
			v := int(samples[fmt.Sprintf("edgerelay_backplane_dropped_total{reason=%q}", reason)])
			p.reasons[reason] += v
			sum += v
		}
		if n.Counts() {
			counted[n.Name] = sum
		}
	}
	return counted
}

// compareCounters compares the counters of each node with the events that the clients of other nodes did not get. A
// node has to count those that were sent while it and the receiver ran, and no event that was not lost. Without an
// absence, both numbers are the same.
func (p *played) compareCounters(counted map[string]int) {
	between := 0 // nodes that count
	for _, name := range slices.Sorted(maps.Keys(counted)) {
		least, most := 0, 0
		for pair, lost := range p.report.Between {
			if pair[0] != name {
				continue
			}
			most += lost
			if _, ok := counted[pair[1]]; ok {
				least += p.report.Accountable[pair]
				between += lost
			}
		}
		if n := counted[name]; n < least || n > most {
			p.fail("node %s counts %d dropped events; other nodes did not get %d, of which %d were sent while both ran",
				name, n, most, least)
		}
	}
	if p.limits.foreign && !p.limits.lossy && between > 0 {
		p.fail("%d events lost between nodes that keep them", between)
	}
}

// compare compares a report with the promises.
func (p *played) compare() {
	r, l := p.report, p.limits
	if r.Doubled > 0 || r.Reordered > 0 {
		p.fail("%d events doubled, %d reordered", r.Doubled, r.Reordered)
	}
	if r.Lost > 0 && !l.lossy && !l.foreignLossy {
		p.fail("%d deliveries lost", r.Lost)
	}
	if r.Untold > 0 {
		p.fail("clients were not told of %d of %d lost deliveries", r.Untold, r.Lost)
	}
	// A node that keeps no events has to tell its clients of each break.
	if r.Needless > 0 && !l.lossy && !l.foreign && !l.told {
		p.fail("%d notices of a loss to clients that lost nothing, such as %s", r.Needless,
			strings.Join(r.Needlessly[:min(3, r.Needless)], ", "))
	}
	if len(r.Closed) > 0 && !l.closing {
		p.fail("clients closed: %s", result.Counts(r.Closed))
	}
	if r.Deliveries == 0 || p.expected == 0 {
		p.fail("the scenario proves nothing: %d deliveries, %d events", r.Deliveries, p.expected)
	}
	for _, bound := range []struct {
		name       string
		got, limit time.Duration
	}{
		{"the first event after a repair came after", r.LastBack, l.back},
		{"the longest gap was", r.LongestGap, l.gap},
		{"an event was late by", r.Latest, l.late},
	} {
		if bound.limit > 0 && bound.got > bound.limit*slack() {
			p.slow = append(p.slow, fmt.Sprintf("%s %.2f s, want %.2f s at most", bound.name, bound.got.Seconds(),
				bound.limit.Seconds()))
		}
	}
}

// slack is the factor of bounds of time. The short form runs beside other tests, so that it finds only what no load
// explains; the full form compares the plain figures.
func slack() time.Duration {
	if full() || busy() <= 1 {
		return 1
	}
	return 4
}

// busy returns the number of processes that want to run, by processor, as an average over the last minute.
func busy() float64 {
	var load float64
	text, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(text), &load)
	}
	if err != nil {
		return 0
	}
	return load / float64(runtime.NumCPU())
}
