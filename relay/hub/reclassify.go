package hub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// reclassifyConcurrency bounds the sessions that are classified at once for the groups of the same rules.
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

// reclassifySubscriptions does what Reclassify orders, until ctx ends. Groups of different rules do not wait for each
// other: rules that take long to decide must not delay the decisions of others, without which events are withheld.
func (h *Hub) reclassifySubscriptions(ctx context.Context) {
	running := map[uint64]bool{} // by generation
	ended := make(chan reclassified)
	wait := minReclassifyPause
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	var passes sync.WaitGroup
	defer passes.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.reclassifySoon:
			wait = minReclassifyPause
		case <-pause.C:
		case pass := <-ended:
			delete(running, pass.generation)
			if pass.done > 0 {
				h.log.Info("subscriptions reclassified", "count", pass.done, "duration", pass.duration)
			}
			if pass.left {
				pause.Reset(wait)
				wait = min(2*wait, maxReclassifyPause)
				continue
			}
		}
		for generation, sessions := range h.outdated() {
			if running[generation] {
				continue
			}
			running[generation] = true
			passes.Go(func() {
				pass := reclassifyAll(ctx, sessions)
				pass.generation = generation
				select {
				case ended <- pass:
				case <-ctx.Done():
				}
			})
		}
	}
}

// reclassified is the result of a pass over the outdated subscriptions of one generation.
type reclassified struct {
	generation uint64
	done       int  // subscriptions with a result
	left       bool // there are others
	duration   time.Duration
}

// reclassifyAll classifies the subscriptions of sessions, of which it has the groups.
func reclassifyAll(ctx context.Context, sessions map[*Session][]string) (pass reclassified) {
	began := time.Now()
	var mu sync.Mutex // guards the results
	slots := make(chan struct{}, reclassifyConcurrency)
	var workers sync.WaitGroup
	for session, groups := range sessions {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			workers.Wait()
			pass.left = true
			return pass
		}
		workers.Go(func() {
			defer func() { <-slots }()
			n := session.reclassify(ctx, groups)
			mu.Lock()
			defer mu.Unlock()
			pass.done += n
			pass.left = pass.left || n < len(groups)
		})
	}
	workers.Wait()
	pass.duration = time.Since(began)
	return pass
}

// outdated returns the sessions with outdated subscriptions and their groups, by the current generation of the groups.
func (h *Hub) outdated() map[uint64]map[*Session][]string {
	outdated := map[uint64]map[*Session][]string{}
	for _, shard := range h.shards {
		for session, groups := range shard.outdated() {
			for _, group := range groups {
				generation := h.generation(group)
				if outdated[generation] == nil {
					outdated[generation] = map[*Session][]string{}
				}
				outdated[generation][session] = append(outdated[generation][session], group)
			}
		}
	}
	return outdated
}

// outdated returns the shard's sessions with subscriptions of an earlier generation, and their groups.
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
