// Package judge compares the events that emitters of a mesh sent with those that clients received: lost, doubled or
// reordered events, lateness, and whether each client was told of each of its losses.
package judge

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Emission is a numbered event of an emitter; its number is its index.
type Emission struct {
	At time.Time
	// Unsure is set if the emitter got an error: Redis took the event or not. Either is right.
	Unsure bool
}

// Emitter is a series of events. Event n is for the group n % [Run.Groups].
type Emitter struct {
	// Node is the node in whose Redis the emitter writes.
	Node      string
	Emissions []Emission
	// From is the first event that counts. Earlier ones may have been sent before all nodes were joined.
	From int
}

// Delivery is an event that a client received.
type Delivery struct {
	Emitter int // index in [Run.Emitters]
	N       int
	At      time.Time
}

// Notice is a frame or the end of a connection that tells a client that events may be missing.
type Notice struct {
	At   time.Time
	Kind string
}

// Client is a subscriber with its records, oldest first.
type Client struct {
	Name, Node string
	Groups     []int
	Deliveries []Delivery
	Notices    []Notice
	// Closed are the ends of connections that the client did not ask for.
	Closed []Notice
	// Untellable: the client cannot be told of losses, as a Python node.
	Untellable bool
}

// Run is everything that was recorded.
type Run struct {
	Groups   int
	Emitters []Emitter
	Clients  []Client
	// Repairs are the times at which a fault ended.
	Repairs []time.Time
	// Absences are the times in which nodes did not run.
	Absences []Absence
}

// Absence is a time in which a node did not run. What it loses then, no counter has: the run that lost it has ended.
type Absence struct {
	Node        string
	From, Until time.Time
}

// Report is the outcome of a run.
type Report struct {
	// Deliveries is the number of events that clients received.
	Deliveries int
	// Lost, LeastLost and MostLost are the lost events: of all clients, and of single clients and emitters of other nodes.
	// MostOf is the number of events to which MostLost belongs.
	Lost, LeastLost, MostLost, MostOf int
	// Doubled are deliveries of an event that had come; Reordered are those behind a later event of the same group.
	Doubled, Reordered int
	// LongestGap is the longest time without an event of one emitter; Latest is the greatest lateness of an event.
	LongestGap, Latest time.Duration
	// Recovered is the number of clients and emitters between which nothing had passed for a second before a repair.
	// FirstBack and LastBack are the times from the repair to the first event of the first and the last of them.
	Recovered           int
	FirstBack, LastBack time.Duration
	// Untold are the lost events without a notice to their client; ToldAfter is the longest time from a lost event to
	// the notice.
	Untold    int
	ToldAfter time.Duration
	// Needless are the notices to clients that lost nothing; Needlessly describes each.
	Needless   int
	Needlessly []string
	// Closed are the ends of connections by code and reason.
	Closed map[string]int
	// Between is the number of events of a node's emitters that no client of another node received, by both nodes.
	// Accountable are those of them that were sent while both nodes ran: the sender's counters must have them.
	Between, Accountable map[[2]string]int
}

// Judge evaluates a run.
func Judge(run *Run) *Report {
	r := &Report{LeastLost: -1, Closed: map[string]int{}, Between: map[[2]string]int{}, Accountable: map[[2]string]int{}}
	received := map[string][]map[int]bool{} // by node and emitter, the events that any of its clients received
	for i := range run.Clients {
		c := &run.Clients[i]
		if received[c.Node] == nil {
			received[c.Node] = make([]map[int]bool, len(run.Emitters))
			for e := range run.Emitters {
				received[c.Node][e] = map[int]bool{}
			}
		}
		r.client(run, c, received[c.Node])
	}
	r.LeastLost = max(r.LeastLost, 0)
	for node, byEmitter := range received {
		for e := range run.Emitters {
			if run.Emitters[e].Node != node {
				count, accountable := missed(run, node, e, byEmitter[e])
				pair := [2]string{run.Emitters[e].Node, node}
				r.Between[pair] += count
				r.Accountable[pair] += accountable
			}
		}
	}
	return r
}

// began is the time of the first event that is judged.
func (run *Run) began() (first time.Time) {
	for i := range run.Emitters {
		em := &run.Emitters[i]
		if em.From < len(em.Emissions) && (first.IsZero() || em.Emissions[em.From].At.Before(first)) {
			first = em.Emissions[em.From].At
		}
	}
	return first
}

// absent reports whether one of two nodes did not run at a time.
func (run *Run) absent(node, other string, at time.Time) bool {
	return slices.ContainsFunc(run.Absences, func(a Absence) bool {
		return (a.Node == node || a.Node == other) && !at.Before(a.From) && !at.After(a.Until)
	})
}

// missed returns the number of an emitter's events that clients of a node subscribe to and that none received, and how
// many of them were sent while both nodes ran.
func missed(run *Run, node string, e int, received map[int]bool) (count, accountable int) {
	subscribed := map[int]bool{}
	for _, c := range run.Clients {
		if c.Node == node {
			for _, g := range c.Groups {
				subscribed[g] = true
			}
		}
	}
	em := &run.Emitters[e]
	for n := em.From; n < len(em.Emissions); n++ {
		if subscribed[n%run.Groups] && !em.Emissions[n].Unsure && !received[n] {
			count++
			if !run.absent(em.Node, node, em.Emissions[n].At) {
				accountable++
			}
		}
	}
	return count, accountable
}

// client judges a client, and adds its events to those that its node received.
func (r *Report) client(run *Run, c *Client, received []map[int]bool) {
	byEmitter := make([][]Delivery, len(run.Emitters))
	for _, d := range c.Deliveries {
		byEmitter[d.Emitter] = append(byEmitter[d.Emitter], d)
		received[d.Emitter][d.N] = true
	}
	for _, n := range c.Closed {
		r.Closed[n.Kind]++
	}
	r.Deliveries += len(c.Deliveries)
	lost := 0
	for e := range run.Emitters {
		missed, of := r.series(run, c, &run.Emitters[e], byEmitter[e])
		if lost += missed; run.Emitters[e].Node == c.Node {
			continue
		}
		if missed > r.MostLost {
			r.MostLost, r.MostOf = missed, of
		}
		if r.LeastLost < 0 || missed < r.LeastLost {
			r.LeastLost = missed
		}
	}
	if r.Lost += lost; lost == 0 {
		began := run.began()
		for _, n := range c.Notices {
			if n.At.After(began) {
				r.Needless++
				r.Needlessly = append(r.Needlessly, fmt.Sprintf("%s: %s after %.1f s", c.Name, n.Kind, n.At.Sub(began).Seconds()))
			}
		}
	}
}

// series judges the events of one emitter at one client and returns the number of lost events, and of all.
func (r *Report) series(run *Run, c *Client, em *Emitter, got []Delivery) (lost, of int) {
	seen, last := map[int]bool{}, map[int]int{}
	for _, d := range got {
		if seen[d.N] {
			r.Doubled++
			continue
		}
		seen[d.N] = true
		group := d.N % run.Groups
		if before, ok := last[group]; ok && d.N < before {
			r.Reordered++
		}
		last[group] = max(last[group], d.N)
		if d.N >= em.From && d.N < len(em.Emissions) {
			r.Latest = max(r.Latest, d.At.Sub(em.Emissions[d.N].At))
		}
	}
	for n := em.From; n < len(em.Emissions); n++ {
		if !slices.Contains(c.Groups, n%run.Groups) || em.Emissions[n].Unsure {
			continue
		}
		if of++; !seen[n] {
			lost++
			if !c.Untellable {
				r.told(c, em.Emissions[n].At)
			}
		}
	}
	r.gaps(run, em, got)
	return lost, of
}

// told looks for the notice of an event that was lost.
func (r *Report) told(c *Client, at time.Time) {
	i, _ := slices.BinarySearchFunc(c.Notices, at, func(n Notice, at time.Time) int { return n.At.Compare(at) })
	if i == len(c.Notices) {
		r.Untold++
		return
	}
	r.ToldAfter = max(r.ToldAfter, c.Notices[i].At.Sub(at))
}

// silent is the time without an event after which nothing passes between an emitter and a client.
const silent = time.Second

// gaps measures the times without an event, and those from the repairs to the next event.
func (r *Report) gaps(run *Run, em *Emitter, got []Delivery) {
	if em.From >= len(em.Emissions) {
		return
	}
	before := em.Emissions[em.From].At
	end := em.Emissions[len(em.Emissions)-1].At
	arrivals := make([]time.Time, 0, len(got)+1)
	for _, d := range got {
		if d.N >= em.From {
			arrivals = append(arrivals, d.At)
		}
	}
	if len(arrivals) == 0 || arrivals[len(arrivals)-1].Before(end) {
		arrivals = append(arrivals, end)
	}
	for i, at := range arrivals {
		r.LongestGap = max(r.LongestGap, at.Sub(before))
		for _, repaired := range run.Repairs {
			if repaired.Before(before) || !repaired.Before(at) || repaired.Sub(before) < silent {
				continue
			}
			back := at.Sub(repaired)
			if r.Recovered++; r.Recovered == 1 || back < r.FirstBack {
				r.FirstBack = back
			}
			r.LastBack = max(r.LastBack, back)
		}
		before = arrivals[i]
	}
}

// Causes returns the keys of [Report.Closed] in order.
func (r *Report) Causes() []string { return slices.Sorted(maps.Keys(r.Closed)) }
