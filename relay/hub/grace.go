package hub

import (
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// lastRecheckTimeout is the time that a recheck gets which begins at the end of the grace time.
	lastRecheckTimeout = 5 * time.Second
	// lateLogInterval is the time between two log lines about late rechecks.
	lateLogInterval = time.Minute
)

// closeUnverified closes sessions without a certain result of a recheck for longer than the grace time.
// See docs/decisions/protocol-and-authz.md#why-does-recheck_grace-delay-the-end-of-a-connection
func (h *Hub) closeUnverified(now time.Time, interval time.Duration) {
	grace := time.Duration(h.recheckGrace.Load())
	if grace < 0 {
		return
	}
	for _, s := range h.rechecks.unverified(now, interval, grace) {
		h.stats.unverified.Add(1)
		h.log.Warn("login unverified beyond recheck_grace, client disconnected", "user", s.identity.Name, "address",
			relay.AddressText(s.address))
		s.socket.Close(relay.CloseTryLater, "authorization is unavailable")
	}
}

// unverified marks and returns the sessions to close.
func (r *rechecks) unverified(now time.Time, interval, grace time.Duration) (sessions []*Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	late := interval > 0 && r.first != nil && now.Sub(r.first.checked) > max(grace, 2*interval)
	if r.failing == 0 && !late { // the usual case; spares the loop
		return nil
	}
	for _, l := range r.logins {
		if !l.beyondGrace(now, interval, grace) {
			continue
		}
		for _, s := range l.sessions {
			if !s.dismissed && now.Sub(time.Unix(int64(s.opened), 0)) > grace {
				s.dismissed = true
				sessions = append(sessions, s)
			}
		}
	}
	return sessions
}

// beyondGrace reports whether a login's last certain result is too old. With late, but not failed rechecks, a login
// gets two intervals. No login ends while a recheck may still succeed.
func (l *login) beyondGrace(now time.Time, interval, grace time.Duration) bool {
	age := now.Sub(l.certain)
	if grace > 0 && age <= grace || !l.failed && (interval <= 0 || age <= max(grace, 2*interval)) {
		return false
	}
	recheckDue := l.checking || interval > 0 && now.Sub(l.checked) >= interval-maxRecheckPause
	return !recheckDue || grace == 0 || age >= grace+lastRecheckTimeout
}

// RecheckStats is a snapshot of the rechecks.
type RecheckStats struct {
	// Logins is the number of logins that are rechecked, Checking the number of rechecks in flight.
	Logins, Checking int
	// Lag is the time by which the oldest certain result is older than the recheck interval.
	Lag time.Duration
	// Unverified is the number of sessions without a certain result of the last recheck.
	Unverified int
}

// Rechecks returns a snapshot. The cost grows with the number of logins.
func (h *Hub) Rechecks() (stats RecheckStats) {
	now, interval := time.Now(), time.Duration(h.recheck.Load())
	r := &h.rechecks
	r.mu.Lock()
	defer r.mu.Unlock()
	stats.Checking = r.checking
	if interval <= 0 {
		return stats
	}
	stats.Logins = len(r.logins)
	for _, l := range r.logins {
		stats.Lag = max(stats.Lag, now.Sub(l.certain)-interval)
		if l.failed {
			stats.Unverified += len(l.sessions)
		}
	}
	return stats
}

// logLateRechecks logs now and then that rechecks do not keep up.
func (h *Hub) logLateRechecks(now time.Time, interval time.Duration) {
	r := &h.rechecks
	r.mu.Lock()
	var late time.Duration
	if interval > 0 && r.first != nil && now.Sub(r.lateLogged) >= lateLogInterval {
		late = now.Sub(r.first.checked) - interval
	}
	if late <= maxRecheckPause+interval/10 {
		r.mu.Unlock()
		return
	}
	r.lateLogged = now
	count := len(r.logins)
	r.mu.Unlock()
	h.log.Warn("login rechecks are late", "behind", late.Round(time.Second).String(), "recheck", interval.String(),
		"count", count, "remedy",
		"raise concurrency of auth awx if its API can take more, give the API more workers, or raise recheck")
}
