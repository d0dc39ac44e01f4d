package awx

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// authorizeTimeout bounds the authorization of one message. Together with joinTimeout it must stay well below the
	// time after which a client counts as timed out, since its frames are not read in the meantime.
	authorizeTimeout = 15 * time.Second
	// maxConcurrentLookups bounds the concurrent calls of the authorizer for one client.
	maxConcurrentLookups = 8
)

// decision is the result for one requested group: the subscription, or the reason for a denial.
type decision struct {
	groupRequest
	subscription relay.Subscription
	err          error
}

// deduplicate returns a decision, still to be made, for each distinct request. decisions[index[i]] is for requests[i].
func deduplicate(requests []groupRequest) (decisions []decision, index []int) {
	const mapThreshold = 16 // below, linear search beats a map
	decisions, index = make([]decision, 0, len(requests)), make([]int, len(requests))
	var seen map[groupRequest]int
	if len(requests) > mapThreshold {
		seen = make(map[groupRequest]int, len(requests))
	}
	for i, r := range requests {
		at := -1
		if seen == nil {
			at = slices.IndexFunc(decisions, func(d decision) bool { return d.groupRequest == r })
		} else if n, ok := seen[r]; ok {
			at = n
		}
		if at < 0 {
			at = len(decisions)
			decisions = append(decisions, decision{groupRequest: r})
			if seen != nil {
				seen[r] = at
			}
		}
		index[i] = at
	}
	return decisions, index
}

// authorize makes the decisions. It reports whether the client requests exactly the groups that it has, which rechecks
// cover; then no lookups are needed.
func (c *Client) authorize(decisions []decision) (unchanged bool) {
	ctx, cancel := context.WithTimeout(context.Background(), authorizeTimeout)
	defer cancel()
	if c.Trace != nil {
		traced, end := c.Trace(ctx, len(decisions))
		ctx = traced
		defer func() { end(countFailures(decisions)) }()
	}
	groups := make([]string, len(decisions))
	for i := range decisions {
		groups[i] = decisions[i].group()
	}
	unchanged = c.Session.Holds(groups)
	if len(decisions) == 1 { // spares a goroutine
		c.decide(ctx, &decisions[0], unchanged)
		return unchanged
	}
	slots := make(chan struct{}, maxConcurrentLookups)
	var lookups sync.WaitGroup
	for i := range decisions {
		slots <- struct{}{}
		lookups.Go(func() {
			defer func() { <-slots }()
			c.decide(ctx, &decisions[i], unchanged)
		})
	}
	lookups.Wait()
	return unchanged
}

// decide makes one decision. With unchanged, groups that rechecks cover need no lookup, but plugins still classify the
// client.
func (c *Client) decide(ctx context.Context, d *decision, unchanged bool) {
	if d.group() == BroadcastGroup {
		d.err = relay.ErrDenied
		return
	}
	d.subscription, d.err = c.Session.Authorize(ctx, d.group(), unchanged)
}

// countFailures counts the denied groups, and those without a decision.
func countFailures(decisions []decision) (denied, failed int) {
	for _, d := range decisions {
		switch {
		case errors.Is(d.err, relay.ErrDenied):
			denied++
		case d.err != nil:
			failed++
		}
	}
	return denied, failed
}

// expired reports whether any decision failed because the client's credentials have expired.
func expired(decisions []decision) bool {
	return slices.ContainsFunc(decisions, func(d decision) bool { return errors.Is(d.err, relay.ErrExpired) })
}

// allowed returns subscriptions to the allowed groups. Different requests may name the same group, such as "a-b" with
// item "c" and "a" with item "b-c"; the engine takes the first one.
func allowed(decisions []decision) []relay.Subscription {
	subs := make([]relay.Subscription, 0, len(decisions))
	for i := range decisions {
		if d := &decisions[i]; d.err == nil {
			subs = append(subs, d.subscription)
		}
	}
	return subs
}

// count counts a decision.
func (s *ClientStats) count(err error) {
	switch {
	case err == nil:
		s.Allowed.Add(1)
	case errors.Is(err, relay.ErrOtherUser):
		s.OtherUser.Add(1)
	case errors.Is(err, relay.ErrDenied):
		s.Denied.Add(1)
	default:
		s.Failed.Add(1)
	}
}

// sendDenials logs each denied request, repeated ones included, and sends an error frame for it, like AWX. Their number
// is bounded by the number of groups that a client may have; otherwise a short message could cause ten thousand frames.
func (c *Client) sendDenials(decisions []decision, index []int) {
	sent, limit := 0, c.Session.Limits().GroupsPerConnection
	for _, i := range index {
		d := &decisions[i]
		if d.err == nil {
			continue
		}
		if sent++; limit > 0 && sent > limit {
			return
		}
		c.logDenial(d)
		c.Session.Send(denialText(d.groupRequest))
	}
}

// logDenial logs denials by AWX's rules at level debug, since AWX's own pages cause them all the time.
func (c *Client) logDenial(d *decision) {
	user, group := c.Session.Identity().Name, d.group()
	switch {
	case d.err == relay.ErrDenied, errors.Is(d.err, relay.ErrOtherUser):
		c.Log.Debug("subscription denied", "user", user, "group", group, "reason", d.err)
	case errors.Is(d.err, relay.ErrDenied): // wrapped with a reason by a plugin
		c.Log.Info("subscription denied", "user", user, "group", group, "reason", d.err)
	default:
		c.Log.Error("subscription denied: authorization is unavailable", "user", user, "group", group, "error", d.err)
	}
}
