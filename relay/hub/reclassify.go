package hub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// reclassifyConcurrency bounds the sessions that are classified at once.
	reclassifyConcurrency = 4
	// minReclassifyPause is the pause before sessions are classified again that were busy or whose classification
	// failed. It doubles up to maxReclassifyPause.
	minReclassifyPause, maxReclassifyPause = 50 * time.Millisecond, 5 * time.Second
)

// Reclassify has all subscriptions classified again whose class is outdated: the interceptor, or its rules, have
// changed. See [relay.Reclassifier]. Until then, events for classes are withheld from these subscriptions.
// See docs/decisions/plugins.md#why-do-classes-carry-a-generation
func (h *Hub) Reclassify() {
	select {
	case h.reclassifySoon <- struct{}{}:
	default:
	}
}

// generation returns the current generation of a group's classes.
func (h *Hub) generation(group string) uint64 {
	if i := h.interceptor.Load(); i != nil {
		if r, ok := (*i).(relay.Reclassifier); ok {
			return r.Generation(group)
		}
	}
	return 0
}

// reclassifyOutdated calls Reclassify if the rules have changed since subscriptions were classified. The caller has
// subscribed before: whoever changes the rules later finds the subscriptions.
func (h *Hub) reclassifyOutdated(subs []relay.Subscription) {
	for i := range subs {
		if subs[i].Generation != h.generation(subs[i].Group) {
			h.Reclassify()
			return
		}
	}
}

// withheldOutdated reports that a job was withheld from subscribers whose class was decided by other rules, or later.
func (h *Hub) withheldOutdated(j *job) {
	group, before := j.audience.subs[0].group, relay.Position{}
	if j.positioned != nil {
		before = j.positioned.written
	}
	h.lose(relay.Loss{Cause: relay.LossReclassified, Groups: []string{group}, Events: j.count}, before)
}

// reclassifySubscriptions does what Reclassify orders, until ctx ends.
func (h *Hub) reclassifySubscriptions(ctx context.Context) {
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	wait := minReclassifyPause
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.reclassifySoon:
			wait = minReclassifyPause
		case <-pause.C:
		}
		began := time.Now()
		done, left := h.reclassifyAll(ctx)
		if done > 0 {
			h.log.Info("subscriptions reclassified", "count", done, "duration", time.Since(began))
		}
		if left {
			pause.Reset(wait)
			wait = min(2*wait, maxReclassifyPause)
		}
	}
}

// reclassifyAll classifies the outdated subscriptions. It returns the number of those with a result, and reports
// whether others are left.
func (h *Hub) reclassifyAll(ctx context.Context) (done int, left bool) {
	var mu sync.Mutex // guards the results
	slots := make(chan struct{}, reclassifyConcurrency)
	var workers sync.WaitGroup
	for _, shard := range h.shards {
		for session, groups := range shard.outdated() {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				workers.Wait()
				return done, true
			}
			workers.Go(func() {
				defer func() { <-slots }()
				n := session.reclassify(ctx, groups)
				mu.Lock()
				defer mu.Unlock()
				done += n
				left = left || n < len(groups)
			})
		}
	}
	workers.Wait()
	return done, left
}

// outdated returns the sessions with subscriptions of an earlier generation, and their groups.
func (s *shard) outdated() map[*Session][]string {
	var audiences []*audience
	s.eachAudience(func(a *audience) { audiences = append(audiences, a) })
	outdated := map[*Session][]string{}
	for _, a := range audiences {
		s.round.Lock()
		if len(a.subs) > 0 {
			current := s.hub.generation(a.subs[0].group)
			if a.hasOthersThan(current) {
				for _, sub := range a.subs {
					if sub.generation != current {
						outdated[sub.session] = append(outdated[sub.session], sub.group)
					}
				}
			}
		}
		s.round.Unlock()
	}
	s.eachPending(func(sub *subscription) {
		if sub.generation != s.hub.generation(sub.group) {
			outdated[sub.session] = append(outdated[sub.session], sub.group)
		}
	})
	return outdated
}

// hasOthersThan reports whether the audience has subscriptions of another generation.
func (a *audience) hasOthersThan(generation uint64) bool {
	if a.usualGeneration != generation {
		return true
	}
	for c := range a.others {
		if c.Generation != generation {
			return true
		}
	}
	return false
}

// reclassify classifies subscriptions of the session again, and ends those that the interceptor denies. It returns the
// number of groups without an outdated class afterwards. After a failure, a class stays as it is: an outdated one stays
// outdated, since a client must not see events by former rules because the current ones fail.
func (s *Session) reclassify(ctx context.Context, groups []string) (settled int) {
	h := s.shard.hub
	results := make(map[string]relay.Classification, len(groups))
	denied := map[string]bool{}
	for _, group := range groups {
		c, err := h.Classify(ctx, s.identity, group)
		if err == nil {
			results[group] = c
		}
		denied[group] = errors.Is(err, relay.ErrDenied)
	}
	if !s.mu.TryLock() { // a subscription in progress, with the result of another classification
		return 0
	}
	defer s.mu.Unlock()
	settled = len(groups)
	var ended []string
	for _, sub := range s.subs {
		isDenied, asked := denied[sub.group]
		if !asked {
			continue
		}
		current := h.generation(sub.group)
		if c, ok := results[sub.group]; ok && (c.Generation == current || sub.generation != current) {
			s.shard.reclassify(sub, c)
		}
		switch {
		case isDenied:
			ended = append(ended, sub.group)
		case sub.generation != current:
			settled--
		}
	}
	if len(ended) > 0 {
		h.log.Info("access revoked, subscriptions ended", "user", s.identity.Name,
			"address", relay.AddressText(s.address), "groups", ended)
		s.end(ended)
	}
	return settled
}

// classified returns the session's groups with a class that rules have decided. During a change there are none: the
// client's message is just being classified.
func (s *Session) classified() (groups []string) {
	if !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if sub.generation != 0 {
			groups = append(groups, sub.group)
		}
	}
	return groups
}
