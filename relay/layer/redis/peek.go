package redis

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// clockSlack is the difference between clocks up to which this node knows what came first.
const clockSlack = relay.HistorySlack * time.Microsecond

// Read implements [relay.History]. It first adds to the history what is not there yet: the events that this node has
// delivered, and those in the mailboxes of the nodes that were members before this node.
// See docs/decisions/history.md#why-does-a-resume-look-into-mailboxes-instead-of-waiting
func (h *history) Read(ctx context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	byHost := map[int][]string{}
	for _, q := range queries {
		if _, ok := h.Limits(q.Group); ok {
			host := h.broker.hosts.Index(q.Group)
			byHost[host] = append(byHost[host], q.Group)
		}
	}
	var mu sync.Mutex
	failed, gaps := map[string]error{}, map[string]bool{}
	var hosts sync.WaitGroup
	for host, groups := range byHost {
		hosts.Go(func() {
			missing, err := h.gather(ctx, host, groups)
			mu.Lock()
			defer mu.Unlock()
			for _, g := range groups {
				if err != nil || missing[g] == noMember {
					failed[g] = relay.NotRecoveredUnavailable
				} else if missing[g] == lost {
					gaps[g] = true
				}
			}
		})
	}
	hosts.Wait()
	pages := h.answer(ctx, queries, failed, gaps)
	if unknown := h.unknown(queries, pages); len(unknown) > 0 && h.readOwn(ctx, unknown) {
		return h.answer(ctx, queries, failed, gaps)
	}
	return pages
}

// unknown returns the groups of positions that the history does not have, although their events may be in the mailbox:
// a client came from another node before this node has read the event.
func (h *history) unknown(queries []relay.HistoryQuery, pages []relay.HistoryPage) (groups []string) {
	oldest := time.Now().Add(-h.broker.settings.Load().Expiry).UnixMicro()
	for i, q := range queries {
		for n, err := range pages[i].Resumable {
			if errors.Is(err, relay.NotRecoveredUnknown) && q.After[n].Micros >= oldest {
				groups = append(groups, q.Group)
				break
			}
		}
	}
	return groups
}

// readOwn adds the messages of groups in this node's own mailbox to the history, and reports whether there were any.
func (h *history) readOwn(ctx context.Context, groups []string) (found bool) {
	b := h.broker
	for _, group := range groups {
		host := b.hosts.Index(group)
		own := &mailboxOf{receiver: b.readers[host].receiver, groups: map[string]string{}}
		if channel, ok := b.members.channel(group); ok {
			own.groups[channel] = group
		}
		pipe := b.hosts.Client(host).Pipeline()
		own.read(ctx, pipe, b.place.Prefix)
		if _, err := pipe.Exec(ctx); err != nil && !redisnet.IsReply(err) {
			continue
		}
		if _, err := own.take(nil); err != nil {
			continue
		}
		if events := h.unread(own, nil).events; len(events) > 0 && h.Add(ctx, host, events) == nil {
			found = true
		}
	}
	return found
}

// channel returns this node's channel in a group.
func (m *memberships) channel(name string) (channel string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(name)
	if g := r.groups.Get(name); g != nil {
		return m.broker.readers[r.host].receiver + g.Value, true
	}
	return "", false
}

// answer reads the pages of the queries that can be answered.
func (h *history) answer(ctx context.Context, queries []relay.HistoryQuery, failed map[string]error,
	gaps map[string]bool,
) []relay.HistoryPage {
	pages := make([]relay.HistoryPage, len(queries))
	var ask []relay.HistoryQuery
	var at []int
	for i, q := range queries {
		if len(q.After) > 0 { // Without a position, no one relies on the answer to be complete.
			pages[i].Err = failed[q.Group]
		}
		if pages[i].Err == nil {
			ask, at = append(ask, q), append(at, i)
		}
	}
	if len(ask) == 0 {
		return pages
	}
	for i, page := range h.Store.Read(ctx, ask) {
		if gaps[ask[i].Group] {
			for n, err := range page.Resumable {
				if err == nil {
					page.Resumable[n] = relay.NotRecoveredGap
				}
			}
		}
		pages[at[i]] = page
	}
	return pages
}

// lack is why the events of a group cannot be gathered.
type lack uint8

const (
	// noMember: this node's membership is not in place.
	noMember lack = iota + 1
	// lost: events were lost in a mailbox that no other one covers.
	lost
)

// gather adds the events of groups on a host to the history that are not there yet.
func (h *history) gather(ctx context.Context, host int, groups []string) (map[string]lack, error) {
	asked := map[string]bool{}
	for _, g := range groups {
		asked[g] = true
	}
	if err := h.awaitEmitters(ctx, groups); err != nil {
		return nil, err
	}
	if events := h.broker.readers[host].recording.pending(asked); len(events) > 0 {
		if err := h.Add(ctx, host, events); err != nil {
			return nil, err
		}
	}
	lacks, pasts := h.broker.members.unreadPasts(groups)
	if len(pasts) == 0 {
		return lacks, nil
	}
	h.peeks[host].Lock()
	defer h.peeks[host].Unlock()
	if _, pasts = h.broker.members.unreadPasts(groups); len(pasts) == 0 { // Another caller was faster.
		return lacks, nil
	}
	gaps, err := h.peek(ctx, host, pasts)
	for _, g := range gaps {
		if asked[g] {
			lacks[g] = lost
		}
	}
	return lacks, err
}

// awaitEmitters waits until emitters that have read the members of groups before this node was one have sent their
// events to the mailboxes of the others.
func (h *history) awaitEmitters(ctx context.Context, groups []string) error {
	var until time.Time
	_, pasts := h.broker.members.unreadPasts(groups)
	for _, p := range pasts {
		if at := p.since.Add(h.broker.emitterLag); at.After(until) {
			until = at
		}
	}
	wait := time.Until(until)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unreadPasts returns the groups whose membership is not in place, and the pasts of those groups of which other nodes
// may hold events unread.
func (m *memberships) unreadPasts(groups []string) (map[string]lack, map[string]*past) {
	lacks, pasts := map[string]lack{}, map[string]*past{}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range groups {
		g, p := m.of(name).groups.Get(name), m.pasts[name]
		switch {
		case g == nil || !g.InPlace() || p == nil:
			lacks[name] = noMember
		case p.unread:
			pasts[name] = p
		}
	}
	return lacks, pasts
}

// peek looks into the mailboxes of the nodes in some pasts, for all groups of this node at once. It returns the groups
// in which events were lost.
func (h *history) peek(ctx context.Context, host int, pasts map[string]*past) (gaps []string, err error) {
	b := h.broker
	if err := h.Load(ctx, host); err != nil { // The reader may not be connected yet.
		return nil, err
	}
	nodes, err := b.beats.readNodes(ctx, host)
	if err != nil {
		return nil, err
	}
	mailboxes := map[string]*mailboxOf{}
	for _, p := range pasts {
		for _, m := range p.before {
			name := receiver(m.channel)
			if node, ok := nodes[name]; ok { // else the node has left, and everything is in the history
				mailboxes[name] = &mailboxOf{receiver: name, node: node, groups: map[string]string{}}
			}
		}
	}
	settled := b.members.coveredBy(host, mailboxes, nodes, pasts)
	if err := h.readAll(ctx, host, mailboxes); err != nil {
		return nil, err
	}
	var events, unkept []relay.Event
	for _, m := range mailboxes {
		u := h.unread(m, nil)
		events, unkept = append(events, u.events...), append(unkept, u.unkept...)
	}
	if len(events) > 0 {
		if err := h.Add(ctx, host, events); err != nil {
			return nil, err
		}
	}
	b.members.receive(append([]relay.Event(nil), events...), replayed)
	gaps = b.members.settle(settled, mailboxes, b.settings.Load())
	for i := range unkept {
		gaps = append(gaps, unkept[i].Group)
	}
	if len(gaps) > 0 {
		h.MarkGap(relay.Loss{Cause: relay.LossDeadNode, Groups: gaps})
	}
	return gaps, nil
}

// readAll reads mailboxes. Of large ones that were read lately, it reads what is new.
func (h *history) readAll(ctx context.Context, host int, mailboxes map[string]*mailboxOf) error {
	prefix, client := h.broker.place.Prefix, h.broker.hosts.Client(host)
	left := maps.Clone(mailboxes)
	for whole := false; len(left) > 0; whole = true {
		pipe := client.Pipeline()
		for _, m := range left {
			if whole {
				m.read(ctx, pipe, prefix)
			} else {
				m.readNews(ctx, pipe, prefix, &h.large)
			}
		}
		if _, err := pipe.Exec(ctx); err != nil && !redisnet.IsReply(err) {
			return err
		}
		for name, m := range left {
			ok, err := m.take(&h.large)
			if err != nil {
				return err
			}
			if ok {
				delete(left, name)
			}
		}
	}
	return nil
}

// coveredBy returns the pasts on a host, beside those given, whose nodes are all among the mailboxes, and tells the
// mailboxes their groups.
func (m *memberships) coveredBy(host int, mailboxes map[string]*mailboxOf, nodes map[string]nodeState,
	pasts map[string]*past,
) map[string]*past {
	m.mu.Lock()
	defer m.mu.Unlock()
	covered := map[string]*past{}
	settled := time.Now().Add(-m.broker.emitterLag)
	for name, p := range m.pasts {
		if !p.unread || p.since.After(settled) || m.broker.hosts.Index(name) != host {
			continue
		}
		all := true
		for _, before := range p.before {
			_, alive := nodes[receiver(before.channel)]
			all = all && (!alive || mailboxes[receiver(before.channel)] != nil)
		}
		if all || pasts[name] == p {
			covered[name] = p
			for _, before := range p.before {
				if box := mailboxes[receiver(before.channel)]; box != nil {
					box.groups[before.channel] = name
				}
			}
		}
	}
	return covered
}

// settle notes that the mailboxes were looked into, and returns the groups in which events were lost.
func (m *memberships) settle(pasts map[string]*past, mailboxes map[string]*mailboxOf, s *inForce) (gaps []string) {
	now, kept := time.Now(), m.broker.history.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, p := range pasts {
		p.unread = false
		if p.lost(mailboxes, s, now) || p.dropped(mailboxes, kept, name) {
			gaps = append(gaps, name)
		}
	}
	return gaps
}

// dropped reports whether a node may have dropped the events of a group: its history was switched off lately.
func (p *past) dropped(mailboxes map[string]*mailboxOf, kept *history, group string) bool {
	if kept == nil {
		return true
	}
	shared := kept.patterns.Load()
	return slices.ContainsFunc(p.before, func(before member) bool {
		box := mailboxes[receiver(before.channel)]
		return box != nil && box.node.beats && !shared.sharedWith(box.node.patterns, group)
	})
}

// lost reports whether events from before this node's membership were lost in a mailbox, and are in no other one.
func (p *past) lost(mailboxes map[string]*mailboxOf, s *inForce, now time.Time) bool {
	for _, before := range p.before {
		box := mailboxes[receiver(before.channel)]
		if box == nil {
			continue
		}
		since := box.lossSince(s, now)
		if !since.IsZero() && since.Before(p.since.Add(clockSlack)) && !p.covers(since, mailboxes, s, now) {
			return true
		}
	}
	return false
}

// covers reports whether another node received everything since a time.
func (p *past) covers(since time.Time, mailboxes map[string]*mailboxOf, s *inForce, now time.Time) bool {
	for _, before := range p.before {
		box := mailboxes[receiver(before.channel)]
		if box != nil && box.lossSince(s, now).IsZero() && before.joined.Add(clockSlack).Before(since) {
			return true
		}
	}
	return false
}
