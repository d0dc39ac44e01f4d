package redis

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// lateEmitters is how long emitters may take from reading a group's members to sending.
	lateEmitters = 200 * time.Millisecond
	// ownAfter is the time after this node's membership from which an event of a dead node's mailbox is in this node's
	// own one, too: more than usualEmitterLag, and than clocks of emitters and nodes usually differ.
	ownAfter = 10 * time.Second
	// adoptAttempts is the number of times that a mailbox may change while it is taken.
	adoptAttempts = 10
)

// adoption is the taking over of a dead node's mailbox.
type adoption struct {
	*history
	on      *hostBeat
	mailbox mailboxOf
	seen    map[string]bool // messages that were taken, by their random bytes

	mu sync.Mutex // guards mailbox.groups while several hosts are searched

	taken, odd int
	unkept     map[string]int // events of groups without history
}

// adopt takes a dead node over, which is claimed: its unread messages go to the history, and to this node's clients
// that did not get them. Only then is the node removed from its groups, and its mailbox only as it was read.
// See docs/decisions/history.md#why-is-a-dead-nodes-mailbox-adopted
func (h *history) adopt(ctx context.Context, on *hostBeat, receiver string, node nodeState, claim string) error {
	began, beats := time.Now(), h.broker.beats
	a := &adoption{
		history: h, on: on, seen: map[string]bool{}, unkept: map[string]int{},
		mailbox: mailboxOf{receiver: receiver, node: node, groups: map[string]string{}},
	}
	if err := h.broker.eachHost(func(host int) error {
		_, err := beats.expel(ctx, h.broker.hosts.Client(host), receiver, a.found)
		return err
	}); err != nil {
		return err
	}
	h.broker.members.recall(&a.mailbox)
	if err := h.Load(ctx, on.host); err != nil { // The reader may not be connected yet.
		return err
	}
	c := h.broker.hosts.Client(on.host)
	if err := a.take(ctx, c); err != nil {
		return err
	}
	a.markLosses()
	if err := errors.Join(beats.beat(ctx, on), a.holdGroups(ctx), beats.beat(ctx, on)); err != nil { // may take long
		return err
	}
	groups, err := beats.expelEverywhere(ctx, receiver)
	if err != nil {
		return err
	}
	select {
	case <-time.After(lateEmitters):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := a.remove(ctx, c, claim); err != nil {
		return err
	}
	a.report()
	h.broker.log.Info("dead node removed from the channel layer", "node", receiver, "groups", groups,
		"adopted", a.taken, "unread", a.odd+a.unkeptCount(), "duration", time.Since(began).Round(time.Millisecond))
	return nil
}

// found notes the dead node's channels in groups.
func (a *adoption) found(_ context.Context, _ *goredis.Client, found map[string][]string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	prefix := groupKey(a.broker.place.Prefix, "")
	for key, channels := range found {
		for _, channel := range channels {
			a.mailbox.groups[channel] = key[len(prefix):]
		}
	}
	return nil
}

// recall adds the channels that a node had when this node became a member: emitters may have removed them since.
func (m *memberships) recall(mailbox *mailboxOf) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, p := range m.pasts {
		for _, b := range p.before {
			if receiver(b.channel) == mailbox.receiver {
				mailbox.groups[b.channel] = name
			}
		}
	}
}

// take reads the mailbox, stores the events and delivers them to clients that did not get them.
func (a *adoption) take(ctx context.Context, c goredis.Cmdable) error {
	a.mailbox.read(ctx, c, a.broker.place.Prefix)
	if _, err := a.mailbox.take(nil); err != nil {
		return err
	}
	u := a.unread(&a.mailbox, a.seen)
	if err := a.addAll(ctx, u.events); err != nil {
		a.seen = map[string]bool{} // The next attempt begins from the start.
		return err
	}
	for i := range u.events {
		u.events[i].Adopted = relay.AdoptedUnread
		if i < u.taken {
			u.events[i].Adopted = relay.AdoptedTaken
		}
	}
	a.taken += len(u.events)
	a.adopted.Add(uint64(len(u.events)))
	a.odd += u.odd
	for i := range u.unkept {
		a.unkept[u.unkept[i].Group]++
	}
	if missed := a.broker.members.missed(u.events, a.mailbox.receiver); len(missed) > 0 {
		a.broker.life.Go(func() { a.broker.sink.Deliver(missed) }) // The sink may block, and beats must go on.
	}
	return nil
}

// missed returns the events that clients of this node did not get, because the node was not a member at that time.
// Later events, by clocks that may differ, are in its own mailbox, too. From there, peers get them as well, unless
// clients had them before.
func (m *memberships) missed(events []relay.Event, dead string) []relay.Event {
	m.mu.Lock()
	var missed []relay.Event
	for i := range events {
		g, p := m.of(events[i].Group).groups.Get(events[i].Group), m.pasts[events[i].Group]
		if g == nil || !g.InPlace() || p == nil || p.recent == nil {
			continue
		}
		if events[i].Position.Micros > p.since.Add(ownAfter).UnixMicro() {
			continue
		}
		if slices.ContainsFunc(p.before, func(b member) bool { return receiver(b.channel) == dead }) {
			missed = append(missed, events[i])
		}
	}
	m.mu.Unlock()
	return m.receive(missed, adopted)
}

// markLosses marks gaps in the dead node's groups if its mailbox lost messages that this node did not receive.
func (a *adoption) markLosses() {
	since := a.mailbox.lossSince(a.broker.settings.Load(), time.Now())
	if since.IsZero() {
		return
	}
	var gaps []string
	for _, group := range a.mailbox.groups {
		if !a.broker.members.receivedSince(group, since) {
			gaps = append(gaps, group)
		}
	}
	if gaps = a.kept(gaps); len(gaps) > 0 {
		a.broker.lost(relay.Loss{Cause: relay.LossDeadNode, Groups: gaps})
	}
}

// receivedSince reports whether this node has been a member of a group since a time or longer.
func (m *memberships) receivedSince(name string, since time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, p := m.of(name).groups.Get(name), m.pasts[name]
	return g != nil && g.InPlace() && p != nil && p.since.Add(clockSlack).Before(since)
}

// remove takes what is left in the mailbox, and deletes the mailbox unless it changes meanwhile.
func (a *adoption) remove(ctx context.Context, c *goredis.Client, claim string) error {
	prefix, beats := a.broker.place.Prefix, a.broker.beats
	keys := []string{prefix + a.mailbox.receiver, inflightKey(prefix, a.mailbox.receiver)}
	for attempt := 1; ; attempt++ {
		err := c.Watch(ctx, func(tx *goredis.Tx) error {
			if err := a.take(ctx, tx); err != nil {
				return err
			}
			_, err := tx.TxPipelined(ctx, func(pipe goredis.Pipeliner) error {
				pipe.Del(ctx, append(keys, claim, beats.beatKey(a.mailbox.receiver))...)
				pipe.SRem(ctx, beats.rosterKey(), a.mailbox.receiver)
				return nil
			})
			return err
		}, keys...)
		if !errors.Is(err, goredis.TxFailedErr) || attempt == adoptAttempts {
			return err
		}
	}
}

// report reports the messages that could not be stored.
func (a *adoption) report() {
	if a.odd > 0 {
		loss := relay.Loss{Cause: relay.LossDeadNode, Events: a.odd}
		for _, group := range a.mailbox.groups {
			loss.Groups = append(loss.Groups, group)
		}
		loss.All = len(loss.Groups) == 0
		a.broker.lost(loss)
	}
	if n := a.unkeptCount(); n > 0 {
		loss := relay.Loss{Cause: relay.LossDeadNode, Events: n}
		for group := range a.unkept {
			loss.Groups = append(loss.Groups, group)
		}
		a.broker.lost(loss)
	}
}

func (a *adoption) unkeptCount() (n int) {
	for _, count := range a.unkept {
		n += count
	}
	return n
}
