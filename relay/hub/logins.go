package hub

import (
	"container/heap"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// rechecks schedules the rechecks of open sessions' logins. All sessions of a login share a recheck in each recheck
// interval. Rechecks are spread evenly over the interval, whenever the sessions began.
// See docs/decisions/protocol-and-authz.md#why-are-sessions-rechecked-by-login
type rechecks struct {
	mu          sync.Mutex // guards all below and all logins
	logins      map[any]*login
	first, last *login // list of logins that are not being checked, the longest unchecked first
	ends        logins // heap of the logins with a known end, the next end first
	checking    int    // number of rechecks in flight

	byUser  map[string]int // number of rechecks in flight by user
	failing int            // number of logins without a certain result of the last recheck

	wake       chan struct{}
	lateLogged time.Time // when late rechecks were last logged
}

// login is a set of credentials with its sessions.
type login struct {
	key      any
	sessions []*Session
	checked  time.Time // beginning of the last recheck; at first, of the login
	certain  time.Time // beginning of the last recheck with a certain result
	checking bool
	asking   bool   // for the classes of its subscriptions
	user     string // the user's key while checking
	failed   bool   // the last recheck had no certain result

	left, right *login // in the list

	end time.Time // zero: unknown
	at  int       // index in ends
}

// departed, as a session's login, marks a session that has ended, so that add ignores the session.
var departed = new(login)

// add schedules a session for rechecks, at most once.
func (r *rechecks) add(s *Session, now time.Time) {
	if _, ok := s.identity.Credentials.(relay.OwnSession); ok {
		return
	}
	var key any = s
	if c, ok := s.identity.Credentials.(relay.SharedLogin); ok {
		if k := c.LoginKey(); k != "" {
			key = k
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.login != nil {
		return
	}
	l := r.logins[key]
	if l == nil {
		l = &login{key: key, checked: now, certain: now}
		if r.logins == nil {
			r.logins = map[any]*login{}
		}
		r.logins[key] = l
		r.append(l)
		if l.end = endOf(s.identity); !l.end.IsZero() {
			heap.Push(&r.ends, l)
		}
		r.signal()
	}
	s.login = l
	l.sessions = append(l.sessions, s)
}

// endOf returns the time at which a login is rechecked whatever the interval, zero for a login without an end.
func endOf(id relay.Identity) (end time.Time) {
	if c, ok := id.Credentials.(relay.ExpiringLogin); ok {
		end = c.Until()
	}
	return end
}

// remove removes a session that has ended.
func (r *rechecks) remove(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := s.login
	s.login = departed
	if l == nil || l == departed {
		return
	}
	for i, other := range l.sessions {
		if other == s {
			last := len(l.sessions) - 1
			l.sessions[i] = l.sessions[last]
			l.sessions[last] = nil
			l.sessions = l.sessions[:last]
			break
		}
	}
	if len(l.sessions) > 0 {
		return
	}
	delete(r.logins, l.key)
	if !l.checking {
		r.unlink(l)
	}
	if l.failed {
		r.failing--
	}
	if !l.end.IsZero() {
		heap.Remove(&r.ends, l.at)
	}
}

// dismiss marks a session before its socket is closed. It returns false for a session that was marked before.
func (r *rechecks) dismiss(s *Session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := !s.dismissed
	s.dismissed = true
	return first
}

// append puts a login at the end of the list. r.mu is held, as in the methods below.
func (r *rechecks) append(l *login) {
	l.left, l.right = r.last, nil
	if r.last == nil {
		r.first = l
	} else {
		r.last.right = l
	}
	r.last = l
}

func (r *rechecks) unlink(l *login) {
	if l.left == nil {
		r.first = l.right
	} else {
		l.left.right = l.right
	}
	if l.right == nil {
		r.last = l.left
	} else {
		l.right.left = l.left
	}
	l.left, l.right = nil, nil
}

// signal wakes the scheduler.
func (r *rechecks) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// begin removes a login from the list for its recheck.
func (r *rechecks) begin(l *login, now time.Time) {
	r.unlink(l)
	l.checking, l.checked, l.user = true, now, l.sessions[0].identity.Key
	r.checking++
	if r.byUser == nil {
		r.byUser = map[string]int{}
	}
	r.byUser[l.user]++
}

// finish puts a login back into the list after the recheck. It locks r.mu.
func (r *rechecks) finish(l *login, began time.Time, certain bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checking--
	decrement(r.byUser, l.user)
	l.checking = false
	l.checked = began
	if certain {
		l.certain = began
	}
	r.signal()
	if len(l.sessions) == 0 { // removed in the meantime
		return
	}
	if l.failed != !certain {
		if l.failed = !certain; l.failed {
			r.failing++
		} else {
			r.failing--
		}
	}
	r.append(l)
}

// logins is a heap by end.
type logins []*login

func (h logins) Len() int           { return len(h) }
func (h logins) Less(i, j int) bool { return h[i].end.Before(h[j].end) }
func (h logins) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }

// Push implements [heap.Interface].
func (h *logins) Push(x any) { l := x.(*login); l.at = len(*h); *h = append(*h, l) }

// Pop implements [heap.Interface].
func (h *logins) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return l
}

const (
	// recheckShare is the divisor for a user's part of the concurrent rechecks: a login with many groups takes long,
	// and a user with a token can create any number of logins.
	recheckShare = 4
	// maxSkippedLogins bounds the logins of such users that a search for due logins skips.
	maxSkippedLogins = 4096
)

// pace spreads the rechecks evenly: as many per interval as there are logins.
type pace struct {
	last   time.Time
	credit float64 // number of rechecks that may begin
}

// due begins the rechecks that are due now. It returns the logins, and the time until further logins may be due.
func (r *rechecks) due(p *pace, now time.Time, interval time.Duration, limit int) (due []*login, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	elapsed := now.Sub(p.last)
	p.last = now
	due, wait = r.dueByEnd(now)
	n := len(r.logins)
	if interval <= 0 || n == 0 {
		p.credit = 0
		return due, wait
	}
	rate := float64(n) / interval.Seconds()
	p.credit = min(p.credit+rate*elapsed.Seconds(), 1+rate*(5*minRecheckPause).Seconds())
	due = r.dueByInterval(due, p, now, interval, limit)
	next := maxRecheckPause
	if r.first != nil && r.checking < limit { // otherwise the end of a recheck wakes the scheduler
		next = time.Duration((1 - p.credit) / rate * float64(time.Second))
		next = min(next, r.first.checked.Add(interval).Sub(now))
	}
	return due, min(wait, max(min(next, maxRecheckPause), minRecheckPause))
}

// dueByEnd begins the rechecks of logins that end now, and returns the time until the next end.
func (r *rechecks) dueByEnd(now time.Time) (due []*login, wait time.Duration) {
	for len(r.ends) > 0 {
		l := r.ends[0]
		if until := l.end.Sub(now); until > 0 {
			return due, min(max(until, minRecheckPause), time.Hour)
		}
		l.end = now.Add(maxRecheckPause) // again, in case the authorizer does not agree that the login has ended
		later := endOf(l.sessions[0].identity)
		if later.After(l.end) { // the login has been renewed
			l.end = later
		}
		heap.Fix(&r.ends, 0)
		if later.After(now) {
			continue
		}
		if !l.checking {
			r.begin(l, now)
			due = append(due, l)
		}
	}
	return due, time.Hour
}

// dueByInterval begins the rechecks that the pace allows or that are late, and appends their logins to due.
func (r *rechecks) dueByInterval(due []*login, p *pace, now time.Time, interval time.Duration, limit int) []*login {
	skipped, limitOfUser, n := 0, max(limit/recheckShare, 1), len(r.logins)
	var next *login // begin removes l from the list
	for l := r.first; l != nil && r.checking < limit; l = next {
		if p.credit < 1 && now.Before(l.checked.Add(interval)) {
			break
		}
		next = l.right
		if user := l.sessions[0].identity.Key; user != "" && r.byUser[user] >= limitOfUser {
			if skipped++; skipped > maxSkippedLogins {
				break
			}
			continue
		}
		// Logins that began together are late together; the pace then spreads them.
		p.credit = max(p.credit-1, -float64(n)/2)
		r.begin(l, now)
		due = append(due, l)
	}
	return due
}
