package hub

import (
	"container/heap"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// rechecks are the logins of open sessions, to be asked about once in each recheck interval: one question for all
// sessions of a login, and all of them spread evenly over the interval, whenever they came.
// See docs/decisions/protocol-and-authz.md#why-are-sessions-rechecked-by-login
type rechecks struct {
	mu          sync.Mutex // guards all below and all logins
	logins      map[any]*login
	first, last *login // those that are not being checked, the one whose check is longest ago first
	ends        logins // those that end at a known time, the next one first
	checking    int    // how many are being checked

	byUser  map[string]int // how many of each user's are being checked
	failing int            // logins whose last check had no certain answer

	wake chan struct{}
	late time.Time // when the log last said that rechecks are late
}

// login is what one set of credentials let in.
type login struct {
	key      any
	sessions []*Session
	checked  time.Time // when the last question about it was asked; at first, when it came
	certain  time.Time // when it was asked about with a certain answer
	checking bool
	user     string // while it is being checked
	failed   bool   // the last check had no certain answer

	left, right *login

	end time.Time // zero: none is known
	at  int       // index in ends
}

// departed marks a session that has ended, so that it is not added again.
var departed = new(login)

// add has a session checked. It does nothing for one that already is.
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

// endOf is when the authorizer is to be asked about a login whatever the recheck interval is, because it ends then.
func endOf(id relay.Identity) (end time.Time) {
	if c, ok := id.Credentials.(relay.ExpiringLogin); ok {
		end = c.Until()
	}
	return end
}

// remove forgets a session.
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

// dismiss notes that a session's socket is to be closed. It reports whether that is news.
func (r *rechecks) dismiss(s *Session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := !s.dismissed
	s.dismissed = true
	return news
}

// append puts a login at the end of the list. r.mu is held, as in all below.
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

// signal has the scheduler look again.
func (r *rechecks) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// begin takes a login out of the list, to be checked.
func (r *rechecks) begin(l *login, now time.Time) {
	r.unlink(l)
	l.checking, l.checked, l.user = true, now, l.sessions[0].identity.Key
	r.checking++
	if r.byUser == nil {
		r.byUser = map[string]int{}
	}
	r.byUser[l.user]++
}

// finish puts a login back into the list after a check that began at a time.
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
	if len(l.sessions) == 0 { // it is forgotten already
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
	// recheckShare is which part of the checks that may be under way one user's logins may have: a login with many groups takes long, and
	// a user with a token can make up logins.
	recheckShare = 4
	// recheckPasses is how many logins of such users are passed over at once to find those of others.
	recheckPasses = 4096
)

// pace lets logins pass one after the other: as many in a recheck interval as there are.
type pace struct {
	last   time.Time
	credit float64 // checks that may begin
}

// due takes the logins that are to be checked now, and returns after how long there may be others.
func (r *rechecks) due(p *pace, now time.Time, every time.Duration, limit int) (due []*login, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	elapsed := now.Sub(p.last)
	p.last = now
	wait = time.Hour
	for len(r.ends) > 0 {
		l := r.ends[0]
		if until := l.end.Sub(now); until > 0 {
			wait = min(wait, max(until, recheckTick))
			break
		}
		l.end = now.Add(recheckRest) // again, should the authorizer say that it has not ended
		heap.Fix(&r.ends, 0)
		if !l.checking {
			r.begin(l, now)
			due = append(due, l)
		}
	}
	n := len(r.logins)
	if every <= 0 || n == 0 {
		p.credit = 0
		return due, wait
	}
	rate := float64(n) / every.Seconds()
	p.credit = min(p.credit+rate*elapsed.Seconds(), 1+rate*(5*recheckTick).Seconds())
	passed, ofUser := 0, max(limit/recheckShare, 1)
	var right *login // begin takes l out of the list
	for l := r.first; l != nil && r.checking < limit && (p.credit >= 1 || !now.Before(l.checked.Add(every))); l = right {
		right = l.right
		if user := l.sessions[0].identity.Key; user != "" && r.byUser[user] >= ofUser {
			if passed++; passed > recheckPasses {
				break
			}
			continue
		}
		p.credit = max(p.credit-1, -float64(n)/2) // logins that came together are due together; the pace makes up for that
		r.begin(l, now)
		due = append(due, l)
	}
	next := recheckRest
	if r.first != nil && r.checking < limit { // else the end of a check is what to wait for
		next = time.Duration((1 - p.credit) / rate * float64(time.Second))
		next = min(next, r.first.checked.Add(every).Sub(now))
	}
	return due, min(wait, max(min(next, recheckRest), recheckTick))
}
