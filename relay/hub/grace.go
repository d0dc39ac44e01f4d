package hub

import (
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// lastAnswerWait is how long the answer of a check is waited for that begins at the end of the grace time.
const lastAnswerWait = 5 * time.Second

// lateLogEvery is how often the log says that rechecks are late.
const lateLogEvery = time.Minute

// closeUnverified ends sessions for which there has been no certain answer for longer than the grace time.
// See docs/decisions/protocol-and-authz.md#why-does-recheck_grace-delay-the-end-of-a-connection
func (h *Hub) closeUnverified(now time.Time, every time.Duration) {
	grace := time.Duration(h.recheckGrace.Load())
	if grace < 0 {
		return
	}
	r := &h.rechecks
	var over []*Session
	r.mu.Lock()
	if r.failing > 0 || every > 0 && r.first != nil && now.Sub(r.first.checked) > max(grace, 2*every) {
		for _, l := range r.logins {
			age := now.Sub(l.certain)
			if age <= grace && grace > 0 || !l.failed && (every <= 0 || age <= max(grace, 2*every)) {
				continue
			}
			soon := l.checking || every > 0 && now.Sub(l.checked) >= every-recheckRest
			if soon && grace > 0 && age < grace+lastAnswerWait { // the authority may be back
				continue
			}
			for _, s := range l.sessions {
				if !s.dismissed && now.Sub(time.Unix(int64(s.opened), 0)) > grace {
					s.dismissed = true
					over = append(over, s)
				}
			}
		}
	}
	r.mu.Unlock()
	for _, s := range over {
		h.stats.unverified.Add(1)
		h.log.Warn("a user's login could not be checked for longer than recheck_grace; its websocket is closed",
			"user", s.identity.Name, "address", relay.AddressText(s.address))
		s.socket.Close(relay.CloseTryLater, "authorization is unavailable")
	}
}

// RecheckStats is how rechecks are doing.
type RecheckStats struct {
	// Logins is how many logins are checked again, and Checking how many of them at this moment.
	Logins, Checking int
	// Lag is by how much the oldest certain answer is older than the recheck interval.
	Lag time.Duration
	// Unverified is how many sessions stay open although the last check of their login had no certain answer.
	Unverified int
}

// Rechecks looks through all logins.
func (h *Hub) Rechecks() (stats RecheckStats) {
	now, every := time.Now(), time.Duration(h.recheck.Load())
	r := &h.rechecks
	r.mu.Lock()
	defer r.mu.Unlock()
	stats.Checking = r.checking
	if every <= 0 {
		return stats
	}
	stats.Logins = len(r.logins)
	for _, l := range r.logins {
		stats.Lag = max(stats.Lag, now.Sub(l.certain)-every)
		if l.failed {
			stats.Unverified += len(l.sessions)
		}
	}
	return stats
}

// sayLate logs now and then that rechecks do not keep up.
func (h *Hub) sayLate(now time.Time, every time.Duration) {
	r := &h.rechecks
	r.mu.Lock()
	var late time.Duration
	if every > 0 && r.first != nil && now.Sub(r.late) >= lateLogEvery {
		late = now.Sub(r.first.checked) - every
	}
	if late <= recheckRest+every/10 {
		r.mu.Unlock()
		return
	}
	r.late = now
	count := len(r.logins)
	r.mu.Unlock()
	h.log.Warn("rechecks of logins are late", "behind", late.Round(time.Second).String(), "recheck", every.String(),
		"logins", count,
		"remedy", "raise concurrency of auth awx if its API can take more, give the API more workers, or raise recheck")
}
