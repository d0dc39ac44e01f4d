package redis

import (
	"fmt"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Time between attempts to join a group whose key cannot be used. A notification that the key has changed ends the
// wait.
const faultFirst, faultMost = time.Second, 30 * time.Second

// fault is why one group cannot be joined although its host is well: its key holds another type, or the user may not
// use it. It concerns nothing but that group.
type fault struct {
	err   error
	wait  time.Duration
	retry time.Time
}

// ownFault reports whether an error concerns a group rather than its host. A user who may not use any group's key is
// the host's matter. anyPlaced is whether the user may use the key of any of them.
func ownFault(err error, anyPlaced func() bool) bool {
	return redisnet.WrongType(err) || redisnet.IsReply(err) && strings.HasPrefix(err.Error(), "NOPERM") && anyPlaced()
}

// blame notes that a group cannot be joined, and lets go who waits for it. membership.mu is held.
func (r *reconciler) blame(g *group, err error) {
	if !g.wanted { // it was left meanwhile
		return
	}
	b := r.members.broker
	if g.fault == nil {
		g.fault = &fault{wait: faultFirst}
		b.log.Warn("a group cannot be joined", "group", g.name, "key", groupKey(b.place.Prefix, g.name),
			"host", r.addr(), "error", err,
			"remedy", "delete the key, which is not a sorted set, or let the redis user use it")
	} else {
		g.fault.wait = min(2*g.fault.wait, faultMost)
	}
	g.fault.err, g.fault.retry = err, time.Now().Add(g.fault.wait)
	delete(r.dirty, g)
	r.faulty[g] = true
	g.answer()
}

// forgive notes that a group can be joined again. membership.mu is held.
func (r *reconciler) forgive(g *group) {
	g.fault = nil
	r.members.broker.log.Info("a group can be joined again", "group", g.name, "host", r.addr())
}

// faulty is how many groups cannot be joined, and one of them with the reason.
func (m *membership) faulty() (n int, example string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.hosts {
		n += len(r.faulty)
		for g := range r.faulty {
			if key := groupKey(m.broker.place.Prefix, g.name); example == "" || key < example {
				example = key
			}
		}
	}
	for _, r := range m.hosts {
		for g := range r.faulty {
			if key := groupKey(m.broker.place.Prefix, g.name); key == example {
				return n, fmt.Sprintf("%s on redis %s: %v", key, r.addr(), g.fault.err)
			}
		}
	}
	return n, ""
}
