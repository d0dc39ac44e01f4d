package hub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// defaultRecheckConcurrency bounds the concurrent rechecks, unless the authorizer is a ConcurrentRechecker.
	defaultRecheckConcurrency = 8
	// groupRecheckConcurrency bounds the concurrent rechecks of a login's groups.
	groupRecheckConcurrency = 4
	// minRecheckPause and maxRecheckPause bound the pauses of the scheduler while there are logins.
	minRecheckPause = 10 * time.Millisecond
	maxRecheckPause = time.Second
)

// recheckSessions rechecks every login, and the groups of the login's sessions, once per recheck interval and at an
// even pace, until ctx ends.
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
		due, wait := h.rechecks.due(&pace, now, every, h.recheckConcurrency())
		for _, l := range due {
			checks.Go(func() { h.recheckLogin(ctx, l, now) })
		}
		if now.Sub(swept) >= maxRecheckPause/2 {
			swept = now
			h.closeUnverified(now, every)
			h.logLateRechecks(now, every)
		}
		timer.Reset(wait)
	}
}

// recheckConcurrency returns the greatest number of concurrent rechecks.
func (h *Hub) recheckConcurrency() int {
	if a, ok := h.Authorizer().(relay.ConcurrentRechecker); ok {
		return max(a.Concurrency(), 1)
	}
	return defaultRecheckConcurrency
}

// recheckLogin rechecks a login, and ends or changes the login's sessions accordingly.
func (h *Hub) recheckLogin(ctx context.Context, l *login, began time.Time) {
	r := &h.rechecks
	r.mu.Lock()
	sessions := append([]*Session(nil), l.sessions...)
	r.mu.Unlock()
	a := h.Authorizer()
	certain := true
	var open []*Session
	var checked relay.Identity
	var result error
	for i, s := range sessions {
		if id := s.identity; i == 0 || id.ID != checked.ID || id.Kind != checked.Kind {
			checked, result = id, a.Recheck(ctx, id)
		}
		outcome := ofProfile(s, checked, result)
		switch known := h.applyRecheck(s, outcome); {
		case !known:
			certain = false
		case outcome == nil:
			open = append(open, s)
		}
	}
	if !certain && ctx.Err() == nil {
		h.log.Warn("login recheck failed", "user", checked.Name, "address", relay.AddressText(sessions[0].address),
			"count", len(sessions), "error", result)
	}
	if groups, ok := a.(relay.GroupRechecker); ok && len(open) > 0 {
		certain = h.recheckGroups(ctx, groups, open) && certain
	}
	r.finish(l, began, certain)
	if !certain && h.recheckGrace.Load() == 0 {
		h.closeUnverified(time.Now(), 0)
	}
	h.classifyAgain(ctx, l, open)
}

// ofProfile returns the outcome of a recheck for a session of the login: a session whose granted groups are no longer
// those of the user's profile has other rights.
func ofProfile(s *Session, checked relay.Identity, result error) error {
	if result != nil {
		return result
	}
	f, rights := s.format.(relay.RightsFormat)
	l, profiled := checked.Credentials.(relay.ProfiledLogin)
	if !rights || !profiled {
		return nil
	}
	if now := l.Profile(); now != "" && !f.SameRights(s.identity.Profile, now) {
		return relay.ErrChanged
	}
	return nil
}

// applyRecheck applies the result of a recheck to a session, which may end. It reports whether the result is certain.
func (h *Hub) applyRecheck(s *Session, err error) (certain bool) {
	ends := errors.Is(err, relay.ErrUnauthenticated) || errors.Is(err, relay.ErrChanged) ||
		errors.Is(err, relay.ErrExpired)
	user, address := s.identity.Name, relay.AddressText(s.address)
	switch {
	case err == nil, ends && !h.rechecks.dismiss(s): // or another recheck has closed the session
	case errors.Is(err, relay.ErrUnauthenticated):
		h.stats.expired.Add(1)
		h.log.Info("login ended, client disconnected", "user", user, "address", address)
		s.endLogin()
	case errors.Is(err, relay.ErrChanged):
		h.log.Info("rights changed, client must reconnect", "user", user, "address", address)
		s.socket.Close(relay.CloseRestart, "rights have changed")
	case errors.Is(err, relay.ErrExpired):
		h.stats.renewed.Add(1)
		h.log.Info("login expired, client must reconnect", "user", user, "address", address)
		s.socket.Close(relay.CloseRestart, relay.RenewReason)
	default:
		return false
	}
	return true
}

// recheckGroups rechecks the groups of a login's sessions, and ends denied subscriptions. It reports whether all
// results are certain.
func (h *Hub) recheckGroups(ctx context.Context, a relay.GroupRechecker, sessions []*Session) bool {
	holders := map[string][]*Session{}
	for _, s := range sessions {
		for _, group := range s.recheckable(a) {
			holders[group] = append(holders[group], s)
		}
	}
	if len(holders) == 0 {
		return true
	}
	id := sessions[0].identity
	var mu sync.Mutex // guards denied and failure
	denied := map[*Session][]string{}
	var failure error
	slots := make(chan struct{}, groupRecheckConcurrency)
	var checks sync.WaitGroup
	for group, sessions := range holders {
		slots <- struct{}{}
		checks.Go(func() {
			defer func() { <-slots }()
			err := a.RecheckGroup(ctx, id, group)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, relay.ErrDenied):
				for _, s := range sessions {
					denied[s] = append(denied[s], group)
				}
			case err != nil && failure == nil:
				failure = err
			}
		})
	}
	checks.Wait()
	for s, groups := range denied {
		h.log.Info("access revoked, subscriptions ended", "user", id.Name, "address", relay.AddressText(s.address),
			"groups", groups)
		s.revoke(groups)
	}
	if failure != nil && ctx.Err() == nil {
		h.log.Warn("group recheck failed", "user", id.Name, "error", failure)
	}
	return failure == nil
}

// recheckable returns the session's groups that need rechecks. During a change there are none: the client's message has
// just been authorized.
func (s *Session) recheckable(a relay.GroupRechecker) (groups []string) {
	if !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if !sub.granted && a.Rechecks(sub.group) {
			groups = append(groups, sub.group)
		}
	}
	return groups
}
