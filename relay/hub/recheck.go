package hub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// rechecksAtOnce is how many logins are checked at once where the authorizer does not say.
	rechecksAtOnce = 8
	// groupsAtOnce is how many groups of one login are asked about at once.
	groupsAtOnce = 4
	// recheckTick and recheckRest bound how long the scheduler sleeps while there are logins.
	recheckTick = 10 * time.Millisecond
	recheckRest = time.Second
)

// recheckSessions asks the authorizer again and again whether clients are still logged in and may see what they are
// subscribed to: about every login once in a recheck interval, no more often than that takes, at an even pace.
func (h *Hub) recheckSessions(ctx context.Context) {
	var checks sync.WaitGroup
	defer checks.Wait()
	pace := pace{last: time.Now()}
	var swept time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-h.rechecks.wake:
		}
		now, every := time.Now(), time.Duration(h.recheck.Load())
		due, wait := h.rechecks.due(&pace, now, every, h.recheckLimit())
		for _, l := range due {
			checks.Go(func() { h.checkLogin(ctx, l, now) })
		}
		if now.Sub(swept) >= recheckRest/2 {
			swept = now
			h.closeUnverified(now, every)
			h.sayLate(now, every)
		}
		timer.Reset(wait)
	}
}

// recheckLimit is how many logins may be checked at once.
func (h *Hub) recheckLimit() int {
	if a, ok := h.Authorizer().(relay.ConcurrentRechecker); ok {
		return max(a.Concurrency(), 1)
	}
	return rechecksAtOnce
}

// checkLogin asks about one login, and ends or changes its sessions if need be.
func (h *Hub) checkLogin(ctx context.Context, l *login, began time.Time) {
	r := &h.rechecks
	r.mu.Lock()
	sessions := append([]*Session(nil), l.sessions...)
	r.mu.Unlock()
	a := h.Authorizer()
	certain := true
	var open []*Session
	var about relay.Identity
	var answer error
	for i, s := range sessions {
		if id := s.identity; i == 0 || id.ID != about.ID || id.Kind != about.Kind {
			about, answer = id, a.Recheck(ctx, id)
		}
		switch known := h.conclude(s, answer); {
		case !known:
			certain = false
		case answer == nil:
			open = append(open, s)
		}
	}
	if !certain && ctx.Err() == nil {
		h.log.Warn("could not check whether a user is still logged in; its websocket stays",
			"user", about.Name, "address", relay.AddressText(sessions[0].address), "websockets", len(sessions), "error", answer)
	}
	if groups, ok := a.(relay.GroupRechecker); ok && len(open) > 0 {
		certain = h.checkGroups(ctx, groups, open) && certain
	}
	r.finish(l, began, certain)
	if !certain && h.recheckGrace.Load() == 0 {
		h.closeUnverified(time.Now(), 0)
	}
}

// conclude does what follows from the answer about a session's login. It reports whether that is a certain one.
func (h *Hub) conclude(s *Session, err error) (certain bool) {
	ends := errors.Is(err, relay.ErrUnauthenticated) || errors.Is(err, relay.ErrChanged) || errors.Is(err, relay.ErrExpired)
	switch {
	case err == nil, ends && !h.rechecks.dismiss(s): // or it is closing already
	case errors.Is(err, relay.ErrUnauthenticated):
		h.stats.expired.Add(1)
		h.log.Info("the user's login has ended; its websocket is closed", "user", s.identity.Name, "address",
			relay.AddressText(s.address))
		h.endLogin(s.socket)
	case errors.Is(err, relay.ErrChanged):
		h.log.Info("the user's rights have changed; its websocket is closed, to connect again", "user",
			s.identity.Name, "address", relay.AddressText(s.address))
		s.socket.Close(relay.CloseRestart, "rights have changed")
	case errors.Is(err, relay.ErrExpired):
		h.stats.renewed.Add(1)
		h.log.Info("a login must be renewed; its websocket is closed", "user", s.identity.Name, "address",
			relay.AddressText(s.address))
		s.socket.Close(relay.CloseRestart, relay.RenewReason)
	default:
		return false
	}
	return true
}

// checkGroups asks about the groups of a login's sessions, and ends the subscriptions to those that the user may not
// see any more. It reports whether all answers were certain.
func (h *Hub) checkGroups(ctx context.Context, a relay.GroupRechecker, sessions []*Session) bool {
	held := map[string][]*Session{}
	for _, s := range sessions {
		for _, group := range s.recheckable(a) {
			held[group] = append(held[group], s)
		}
	}
	if len(held) == 0 {
		return true
	}
	id := sessions[0].identity
	var mu sync.Mutex // guards the two below
	lost := map[*Session][]string{}
	var failure error
	slots := make(chan struct{}, groupsAtOnce)
	var asking sync.WaitGroup
	for group, holders := range held {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			err := a.RecheckGroup(ctx, id, group)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, relay.ErrDenied):
				for _, s := range holders {
					lost[s] = append(lost[s], group)
				}
			case err != nil && failure == nil:
				failure = err
			}
		})
	}
	asking.Wait()
	for s, groups := range lost {
		h.log.Info("the user may not see a group any more; the subscription is ended", "user", id.Name, "address",
			relay.AddressText(s.address), "groups", groups)
		s.revoke(groups)
	}
	if failure != nil && ctx.Err() == nil {
		h.log.Warn("could not check whether a user may still see a group; the subscription stays", "user", id.Name,
			"error", failure)
	}
	return failure == nil
}

// recheckable returns those of the session's groups that are to be asked about again: none while they are being
// changed, since the client's message has just been authorized.
func (s *Session) recheckable(a relay.GroupRechecker) (groups []string) {
	if !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if a.Rechecks(sub.group) {
			groups = append(groups, sub.group)
		}
	}
	return groups
}
