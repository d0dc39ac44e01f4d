package hub

import (
	"context"

	"github.com/edgerelay/edgerelay/relay"
)

// Subscribe makes groups the session's subscriptions, in place of all earlier ones; there must be no duplicates.
// It returns when events of all of them reach the client. If the layer does not take the memberships
// before ctx ends, they stand all the same, and that error is returned beside the change.
func (h *Hub) Subscribe(ctx context.Context, s *Session, groups []string) (relay.Change, error) {
	return h.SubscribeAs(ctx, s, groups, nil)
}

// SubscribeAs is Subscribe with a class, 0 to 63, for each group; nil means 0 for all. See [relay.Redaction].
func (h *Hub) SubscribeAs(ctx context.Context, s *Session, groups []string, classes []uint8) (relay.Change, error) {
	if limit := h.Limits().GroupsPerConnection; limit > 0 && len(groups) > limit {
		return relay.Change{}, relay.TooManyGroupsError{Wanted: len(groups), Limit: limit}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.subscribe(ctx, s, groups, classes)
}

// Keep makes those of groups that the session still has its subscriptions, with new classes.
func (h *Hub) Keep(ctx context.Context, s *Session, groups []string, classes []uint8) (relay.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	has := make(map[string]bool, len(s.subs))
	for _, sub := range s.subs {
		has[sub.group] = true
	}
	var kept []string
	var keptClasses []uint8
	for i, g := range groups {
		if has[g] {
			kept, keptClasses = append(kept, g), append(keptClasses, classes[i])
		}
	}
	return h.subscribe(ctx, s, kept, keptClasses)
}

// subscribe is SubscribeAs with s.mu held.
func (h *Hub) subscribe(ctx context.Context, s *Session, groups []string, classes []uint8) (relay.Change, error) {
	if s.gone {
		return relay.Change{}, relay.ErrClosed
	}
	s.revoked = false
	change := relay.Change{Current: groups}

	wanted := make(map[string]uint8, len(groups)) // with the class
	for i, g := range groups {
		wanted[g] = 0
		if classes != nil {
			wanted[g] = classes[i] & 63
		}
	}
	var kept, left []*subscription
	held := make(map[string]bool, len(s.subs))
	for _, sub := range s.subs {
		held[sub.group] = true
		if class, ok := wanted[sub.group]; ok {
			kept = append(kept, sub)
			if class != sub.class {
				s.shard.reclassify(sub, class)
			}
		} else {
			left = append(left, sub)
			change.Left = append(change.Left, sub.group)
		}
	}
	for _, g := range groups {
		if !held[g] {
			change.Joined = append(change.Joined, g)
		}
	}

	s.drop(left)
	s.subs = kept
	if len(change.Joined) == 0 {
		return change, nil
	}
	joining := h.interest.want(change.Joined, true)
	for _, g := range change.Joined { // events of groups that are joined do not wait for the others
		s.subs = append(s.subs, s.shard.subscribe(s, h.interest.name(g), wanted[g]))
	}
	return change, joining.wait(ctx)
}
