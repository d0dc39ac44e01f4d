package redis

import (
	"context"
	"maps"
	"slices"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/reconcile"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

const (
	// formerKept is how long the channel names of groups that this node has left are known, and how long a node's
	// past matters: longer than a message lasts.
	formerKept = 2 * time.Minute
	// recentMax is the number of events of a group that are remembered as delivered while another node's mailbox may
	// hold the same events.
	recentMax = 4096
	// usualEmitterLag is the time from an emitter's reading of a group's members to the arrival of its event in their
	// mailboxes, at most: channels_redis does both in turn. An event of an emitter that is slower may be missing from a
	// resume on a node that has just become a member.
	usualEmitterLag = time.Second
	// lateReader is how long a mailbox may be unread until its messages are read before groups are left.
	lateReader = time.Second
	// readMargin is the time before messages expire from which a mailbox is no longer trusted to hold them all; with a
	// short expiry, a quarter of the expiry.
	readMargin = 5 * time.Second
)

// former is a group with history that this node has left. Events that were sent before are still for the history.
type former struct {
	name  string
	until time.Time
}

// past is what came before this node's membership in a group with history. All later events reach this node's own
// mailbox, apart from those of emitters that read the members earlier (usualEmitterLag). Earlier events were sent to
// the nodes that were members then, and may be unread in their mailboxes.
// See docs/decisions/history.md#why-does-a-resume-look-into-mailboxes-instead-of-waiting
type past struct {
	since  time.Time
	before []member // the other relays that were members at that time
	unread bool     // their mailboxes have not been looked into since
	// recent are the events that clients got since, and how; nil if too many or too long ago.
	recent map[relay.Position]way
}

// member is a relay's entry in a group.
type member struct {
	channel string
	joined  time.Time // by the relay's clock
}

// way is how clients of this node got an event.
type way uint8

const (
	live     way = 1 << iota // from this node's mailbox
	replayed                 // to clients that resumed, from another node's mailbox
	adopted                  // from a dead node's mailbox
)

// remember keeps the channel name of a group with history that was left. m.mu is held.
func (m *memberships) remember(g *group) {
	delete(m.pasts, g.Key)
	h := m.broker.history.Load()
	if h == nil {
		return
	}
	if _, ok := h.Limits(g.Key); !ok {
		return
	}
	now := time.Now()
	if len(m.former) >= 1024 { // Now and then, at a bounded price per group.
		for local, f := range m.former {
			if f.until.Before(now) {
				delete(m.former, local)
			}
		}
	}
	m.former[g.Value] = former{g.Key, now.Add(formerKept)}
}

// receive notes events on their way to clients, in groups of which other nodes may hold the same events unread. It
// returns the events without those that clients got in another way.
func (m *memberships) receive(events []relay.Event, now way) []relay.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.pasts) == 0 {
		return events
	}
	kept := events[:0]
	for i := range events {
		p := m.pasts[events[i].Group]
		if p == nil || p.recent == nil || p.firstTime(events[i].Position, now) {
			kept = append(kept, events[i])
		}
	}
	return kept
}

// firstTime notes the way in which clients get an event, and reports whether they did not get it already.
func (p *past) firstTime(at relay.Position, now way) bool {
	before := p.recent[at]
	if p.recent[at] = before | now; len(p.recent) > recentMax || time.Since(p.since) > formerKept {
		p.recent = nil
	}
	switch now {
	case live: // A client that resumed ignores the event; the others did not get it.
		return before&adopted == 0
	case adopted:
		return before == 0
	}
	return true
}

// wanted returns the groups that are wanted on any host.
func (m *memberships) wanted() (names []string) {
	for host := range m.hosts {
		names = append(names, m.wantedOn(host)...)
	}
	return names
}

// arrival is a membership that is about to be placed, and what Redis says about the group.
type arrival struct {
	group   string
	own     string // this node's channel
	members *goredis.ZSliceCmd
}

// depart writes the delivered events of the groups that tasks leave. A node that joins later cannot know of them:
// without another member it marks a gap behind the events of the history.
func (r *reconciler) depart(ctx context.Context, tasks []reconcile.Task[string]) error {
	b := r.members.broker
	h := b.history.Load()
	if h == nil {
		return nil
	}
	groups := map[string]bool{}
	for _, t := range tasks {
		if _, ok := h.Limits(t.Entry.Key); ok && t.Action == reconcile.Remove {
			groups[t.Entry.Key] = true
		}
	}
	if len(groups) == 0 {
		return nil
	}
	if b.readers[r.host].unreadFor() > lateReader { // What waits was sent while this node was a member.
		h.readOwn(ctx, slices.Collect(maps.Keys(groups)))
	}
	events := b.readers[r.host].recording.settled(groups)
	if len(events) == 0 {
		return nil
	}
	if err := h.Add(ctx, r.host, events); err != nil && !redisnet.IsReply(err) {
		return err
	}
	return nil
}

// arrive looks at the members of the groups with history that tasks place. Where no relay has received the events
// until now, it adds the commands that mark a gap to pipe, before the membership itself: a node that sees this node as
// a member sees the gap, too.
func (r *reconciler) arrive(ctx context.Context, tasks []reconcile.Task[string], pipe goredis.Pipeliner) error {
	b := r.members.broker
	h := b.history.Load()
	if h == nil {
		return nil
	}
	look := b.hosts.Client(r.host).Pipeline()
	var arrivals []arrival
	for _, t := range tasks {
		if _, ok := h.Limits(t.Entry.Key); ok && t.Action == reconcile.Place {
			arrivals = append(arrivals, arrival{
				group: t.Entry.Key, own: b.readers[r.host].receiver + t.Entry.Value,
				members: look.ZRangeWithScores(ctx, r.key(t.Entry), 0, -1),
			})
		}
	}
	if len(arrivals) == 0 {
		return nil
	}
	beat := look.Get(ctx, b.beats.beatKey(b.readers[r.host].receiver))
	if _, err := look.Exec(ctx); err != nil && !redisnet.IsReply(err) {
		return err
	}
	if err := b.beats.begin(ctx, r.host, beat.Val(), h); err != nil {
		return err
	}
	nodes, err := b.beats.nodesFor(ctx, r.host, arrivals)
	if err != nil && !redisnet.IsReply(err) {
		return err
	}
	var first []string
	for _, a := range arrivals {
		if !r.begin(a, nodes) {
			first = append(first, a.group)
		}
	}
	commands, err := h.GapCommands(ctx, nil, first)
	if err != nil {
		return err
	}
	for _, command := range commands {
		args := make([]any, len(command))
		for i, arg := range command {
			args[i] = arg
		}
		pipe.Do(ctx, args...)
	}
	return nil
}

// begin notes the past of a membership, and reports whether the group's events were received until now: by this node
// itself, or by another relay whose mailbox holds what it has not read.
func (r *reconciler) begin(a arrival, nodes map[string]nodeState) (received bool) {
	b := r.members.broker
	r.members.mu.Lock()
	defer r.members.mu.Unlock()
	p := &past{since: time.Now(), recent: map[relay.Position]way{}}
	patterns, expiry := b.history.Load().patterns.Load(), b.settings.Load().Expiry
	own := b.readers[r.host].receiver
	for _, z := range a.members.Val() {
		channel, _ := z.Member.(string)
		if channel == a.own && r.members.pasts[a.group] != nil {
			return true
		}
		node, ok := nodes[receiver(channel)]
		if ok && receiver(channel) != own && patterns.sharedWith(node.patterns, a.group) &&
			!node.late(expiry) {
			p.before = append(p.before, member{channel, time.UnixMicro(int64(z.Score * 1e6))})
		}
	}
	r.members.pasts[a.group] = p
	if p.unread = len(p.before) > 0; !p.unread {
		p.recent = nil
	}
	return p.unread
}

// beginHeld begins the history of groups in which this node is a member already.
func (m *memberships) beginHeld(groups []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range groups {
		if m.pasts[name] == nil {
			m.pasts[name] = &past{since: time.Now()}
		}
	}
}
