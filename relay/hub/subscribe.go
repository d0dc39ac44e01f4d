package hub

import (
	"context"
	"fmt"
	"slices"

	"github.com/edgerelay/edgerelay/relay"
)

// Authorize implements [relay.Session].
func (s *Session) Authorize(ctx context.Context, group string, held bool) (relay.Subscription, error) {
	h := s.shard.hub
	rechecker, _ := h.Authorizer().(relay.GroupRechecker)
	if held && rechecker != nil && rechecker.Rechecks(group) {
		return h.Grant(ctx, s.identity, group)
	}
	return h.Authorize(ctx, s.identity, group)
}

// Authorize decides whether a user may subscribe to a group, as [relay.Session.Authorize] does for a client.
func (h *Hub) Authorize(ctx context.Context, id relay.Identity, group string) (relay.Subscription, error) {
	if err := h.Authorizer().Authorize(ctx, id, group); err != nil {
		return relay.Subscription{}, err
	}
	return h.Grant(ctx, id, group)
}

// Grant returns the subscription of a user to a group that needs no permission. An error denies the subscription.
func (h *Hub) Grant(ctx context.Context, id relay.Identity, group string) (relay.Subscription, error) {
	c, err := h.Classify(ctx, id, group)
	return relay.Subscription{Group: group, Class: c.Class, Generation: c.Generation}, err
}

// Classify returns the interceptor's classification of a subscription that the authorizer has allowed. An error denies
// the subscription.
func (h *Hub) Classify(ctx context.Context, id relay.Identity, group string) (c relay.Classification, err error) {
	i := h.interceptor.Load()
	if i == nil {
		return c, nil
	}
	if c, err = (*i).Classify(ctx, id, group); err == nil {
		err = relay.CheckClass(c.Class)
	}
	if err != nil {
		return relay.Classification{}, err
	}
	return c, nil
}

// Holds implements [relay.Session].
func (s *Session) Holds(groups []string) bool {
	h := s.shard.hub
	if _, ok := h.Authorizer().(relay.GroupRechecker); !ok || h.recheck.Load() <= 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// A message with exactly the current groups changes nothing and ends at once, so it cannot hold s.mu against a
	// recheck.
	if len(groups) != len(s.subs) || len(groups) == 0 {
		return false
	}
	held := s.heldGroups()
	for _, g := range groups {
		if !held[g] {
			return false
		}
	}
	return true
}

// heldGroups returns the set of the session's groups. s.mu is held.
func (s *Session) heldGroups() map[string]bool {
	held := make(map[string]bool, len(s.subs))
	for _, sub := range s.subs {
		held[sub.group] = true
	}
	return held
}

// Subscribe implements [relay.Session].
func (s *Session) Subscribe(ctx context.Context, subs []relay.Subscription) (relay.Change, error) {
	if limit := s.Limits().GroupsPerConnection; limit > 0 && len(subs) > limit {
		return relay.Change{}, relay.TooManyGroupsError{Wanted: len(subs), Limit: limit}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subscribe(ctx, subs)
}

// Keep implements [relay.Session].
func (s *Session) Keep(ctx context.Context, subs []relay.Subscription) (relay.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.heldGroups()
	var kept []relay.Subscription
	for _, sub := range subs {
		if held[sub.Group] {
			kept = append(kept, sub)
		}
	}
	return s.subscribe(ctx, kept)
}

// Amend implements [relay.Session].
func (s *Session) Amend(ctx context.Context, subs []relay.Subscription, leave []string) (relay.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(subs) // of a group that is listed again, the new classification counts
	for _, sub := range s.subs {
		if !slices.Contains(leave, sub.group) {
			all = append(all, relay.Subscription{
				Group: sub.group, Class: sub.class, Generation: sub.generation, Granted: sub.granted,
			})
		}
	}
	if limit := s.Limits().GroupsPerConnection; limit > 0 && len(all) > limit {
		wanted := map[string]int{}
		if groups, err := distinct(all, wanted); err == nil && len(groups) > limit {
			return relay.Change{}, relay.TooManyGroupsError{Wanted: len(groups), Limit: limit}
		}
	}
	return s.subscribe(ctx, all)
}

// subscribe replaces the subscriptions. s.mu is held.
func (s *Session) subscribe(ctx context.Context, subs []relay.Subscription) (change relay.Change, err error) {
	if s.closed {
		return change, relay.ErrClosed
	}
	wanted := make(map[string]int, len(subs))
	groups, err := distinct(subs, wanted)
	if err != nil {
		return change, err
	}
	s.revoked = false
	held := make(map[string]bool, len(s.subs))
	var kept, left []*subscription
	for _, sub := range s.subs {
		held[sub.group] = true
		index, ok := wanted[sub.group]
		if !ok {
			left = append(left, sub)
			change.Left = append(change.Left, sub.group)
			continue
		}
		kept = append(kept, sub)
		s.shard.reclassify(sub, classificationOf(&subs[index]))
	}
	change.Current = slices.Clip(groups)
	change.Joined = missing(groups, held)
	s.drop(left)
	s.subs = kept
	if len(change.Joined) == 0 {
		s.shard.hub.reclassifyOutdated(subs)
		return change, nil
	}
	joining := s.shard.hub.interest.want(change.Joined, true)
	for _, g := range change.Joined { // before the wait: events of joined groups need not wait for other groups
		s.subs = append(s.subs, s.shard.enter(s, s.shard.hub.interest.name(g), &subs[wanted[g]]))
	}
	if f, ok := s.format.(relay.SubscriptionFormat); ok {
		f.Subscribed(s, slices.Clone(change.Joined))
	}
	s.shard.hub.reclassifyOutdated(subs)
	err = joining.wait(ctx)
	if err != nil && s.positioned {
		s.shard.markLate(s, s.shard.hub.interest.unconfirmed(change.Joined))
	}
	return change, err
}

// missing returns the groups that are not held, nil if there are none. It appends to groups, whose spare capacity saves
// an allocation.
func missing(groups []string, held map[string]bool) []string {
	n := len(groups)
	for _, g := range groups {
		if !held[g] {
			groups = append(groups, g)
		}
	}
	if len(groups) == n {
		return nil
	}
	return groups[n:]
}

// classificationOf returns the classification of a subscription.
func classificationOf(sub *relay.Subscription) relay.Classification {
	return relay.Classification{Class: sub.Class, Generation: sub.Generation}
}

// distinct returns the groups of subs, each once, and stores each group's index in subs; of several, the first counts.
func distinct(subs []relay.Subscription, index map[string]int) (groups []string, err error) {
	groups = make([]string, 0, 2*len(subs)) // with spare capacity for missing
	for i := range subs {
		sub := &subs[i]
		if err := relay.CheckClass(sub.Class); err != nil {
			return nil, fmt.Errorf("group %s: %w", sub.Group, err)
		}
		if _, ok := index[sub.Group]; !ok {
			groups = append(groups, sub.Group)
			index[sub.Group] = i
		}
	}
	return groups, nil
}
