package backplane

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// earlierWait bounds the read of this node's history, and earlierEvents the events of each group.
	earlierWait, earlierEvents = 5 * time.Second, 500
)

// earlier tells what an earlier run of this node received. The history of a peer replays some seconds before the last
// event that this node has. If this run is younger than that, the replay has events that clients got from the run
// before. The node's own history, if it outlives runs, has the events that were received. See
// docs/decisions/backplane.md#what-does-a-new-run-know-about-the-one-before
//
// recent.mu guards the fields, apart from young and read.
type earlier struct {
	young    []string      // groups of which the replay may reach behind the first event
	read     chan struct{} // closed once had is complete; nil without a history that outlives runs
	had      map[identity]bool
	replayed []identity      // events that the source has sent from before this run
	excess   map[string]bool // groups with further ones
}

// add records an event that the source has sent from before this run.
func (e *earlier) add(id identity) {
	if len(e.replayed) < maxRecent {
		e.replayed = append(e.replayed, id)
		return
	}
	if e.excess == nil {
		e.excess = map[string]bool{}
	}
	e.excess[id.group] = true
}

// unknown returns the groups with a replayed event that this node's history lacks, or may lack.
func (e *earlier) unknown() (groups []string) {
	missed := map[string]bool{}
	for group := range e.excess {
		missed[group] = true
		groups = append(groups, group)
	}
	for _, id := range e.replayed {
		if !e.had[id] && !missed[id.group] {
			missed[id.group] = true
			groups = append(groups, id.group)
		}
	}
	return groups
}

// readEarlier begins to read from this node's history what it has received of the young groups of a layer.
func (l *link) readEarlier(r *recent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, history := r.doubles, l.b.lastingHistory()
	if d == nil || len(d.before.young) == 0 || history == nil {
		return
	}
	d.before.read, d.before.had = make(chan struct{}), map[identity]bool{}
	queries := make([]relay.HistoryQuery, len(d.before.young))
	for n, group := range d.before.young {
		queries[n] = relay.HistoryQuery{Group: group, Latest: earlierEvents}
	}
	if !l.b.spawn(func() { l.b.collectEarlier(r, d, history, queries) }) {
		close(d.before.read)
	}
}

// collectEarlier reads the history, and then lets the link that waits for it close its gap.
func (b *Backplane) collectEarlier(r *recent, d *doubles, history relay.History, queries []relay.HistoryQuery) {
	ctx, cancel := context.WithTimeout(b.ctx, earlierWait)
	defer cancel()
	for len(queries) > 0 {
		some := queries[:min(len(queries), refillGroups)]
		queries = queries[len(some):]
		pages := history.Read(ctx, some)
		r.mu.Lock()
		for _, page := range pages {
			for n := range page.Events {
				ev := &page.Events[n]
				d.before.had[identity{ev.Group, ev.Position.Entry()}] = true
			}
		}
		r.mu.Unlock()
	}
	close(d.before.read)
	for _, l := range b.allLinks() {
		if l.recent.Load() == r {
			l.checkGap()
		}
	}
}

// isRead reports whether the history was read, or need not be.
func (r *recent) isRead() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.doubles == nil || r.doubles.before.read == nil {
		return true
	}
	select {
	case <-r.doubles.before.read:
		return true
	default:
		return false
	}
}

// lastingHistory returns this node's history if it outlives the process, else nil.
func (b *Backplane) lastingHistory() relay.History {
	history := b.history()
	if inspected, ok := history.(relay.HistoryInspector); history == nil || ok && inspected.HistoryStats().Kind == "ring" {
		return nil
	}
	return history
}
