package redis

import (
	"context"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// hold is this node's membership in a group for a dead node, whose clients may come back.
type hold struct {
	until  time.Time
	joined bool // the engine wants the group, too
}

// holdTimeout bounds the wait for the memberships of a dead node's groups.
const holdTimeout = 10 * time.Second

// holdGroups makes this node a member of the groups of which a dead node was the only live member, for as long as their
// events are kept. Otherwise events would have no receiver until a client comes back.
func (a *adoption) holdGroups(ctx context.Context) error {
	orphans, err := a.orphans(ctx)
	if err != nil || len(orphans) == 0 {
		return err
	}
	now, m := time.Now(), a.broker.members
	m.mu.Lock()
	var held []string
	for _, name := range orphans {
		limits, ok := a.Limits(name)
		if g := m.of(name).groups.Get(name); !ok || g != nil && g.Wanted() {
			continue
		}
		if m.holds == nil {
			m.holds = map[string]*hold{}
		}
		m.holds[name] = &hold{until: now.Add(limits.Age)}
		held = append(held, name)
	}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	return m.want(ctx, held)
}

// orphans returns the groups with history of the dead node in which no other live relay is a member.
func (a *adoption) orphans(ctx context.Context) (orphans []string, err error) {
	byHost := map[int][]string{}
	for _, group := range a.mailbox.groups {
		if _, ok := a.Limits(group); ok {
			host := a.broker.hosts.Index(group)
			byHost[host] = append(byHost[host], group)
		}
	}
	lasts := a.broker.beats.times().lasts
	for host, groups := range byHost {
		nodes, err := a.broker.beats.readNodes(ctx, host)
		if err != nil {
			return nil, err
		}
		pipe := a.broker.hosts.Client(host).Pipeline()
		members := make([]*goredis.StringSliceCmd, len(groups))
		for i, group := range groups {
			members[i] = pipe.ZRange(ctx, groupKey(a.broker.place.Prefix, group), 0, -1)
		}
		if _, err := pipe.Exec(ctx); err != nil && !redisnet.IsReply(err) {
			return nil, err
		}
		for i, group := range groups {
			received := false
			for _, channel := range members[i].Val() {
				node, ok := nodes[receiver(channel)]
				received = received || ok && !node.dead(lasts) && a.patterns.Load().sharedWith(node.patterns, group)
			}
			if !received {
				orphans = append(orphans, group)
			}
		}
	}
	return orphans, nil
}

// endHolds ends the memberships for dead nodes whose time is over, unless the engine wants the groups.
func (m *memberships) endHolds(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, h := range m.holds {
		if h.until.After(now) {
			continue
		}
		delete(m.holds, name)
		if !h.joined {
			m.drop(name)
		}
	}
}

// drop ends the membership of a group. m.mu is held.
func (m *memberships) drop(name string) {
	r := m.of(name)
	r.groups.Drop(name)
	r.wake()
}
