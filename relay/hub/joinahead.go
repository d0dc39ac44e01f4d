package hub

import "context"

// JoinAhead makes this node a member of groups before their client's connection is open, so that the client misses
// nothing from the moment at which it learns that the connection is open. It returns when events of all groups reach
// this node, or with ctx's error. The memberships hold in either case, until release is called, after the client's
// subscription.
func (h *Hub) JoinAhead(ctx context.Context, groups []string) (release func(), err error) {
	err = h.interest.join(ctx, groups, true)
	return func() { h.interest.leave(groups, true) }, err
}
