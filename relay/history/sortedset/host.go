package sortedset

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// host is the history on one host.
type host struct {
	store   *Store
	index   int
	loading sync.Mutex            // one establish at a time
	epoch   atomic.Pointer[epoch] // nil: unknown
	newest  atomic.Int64          // micros of the newest event that this node has seen on the host
	trouble atomic.Pointer[error] // the last failure; nil: none
	wake    chan struct{}         // there are pending gaps or events for Run
	ticking sync.Mutex            // one Tick at a time, between Redis and the groups

	mu      sync.Mutex // guards all below
	groups  map[string]*group
	pending pending
	queue   []relay.Event // of peers, to be added
	lates   []groupLate   // late entries for events of the queue
	adding  sync.Mutex    // one flush of the queue at a time
}

func newHost(s *Store, index int) *host {
	return &host{
		store: s, index: index, wake: make(chan struct{}, 1),
		groups: map[string]*group{}, pending: pending{groups: map[string][]mark{}},
	}
}

func (h *host) client() *goredis.Client { return h.store.ring.Client(h.index) }

// forgetEpoch makes the key unknown.
func (h *host) forgetEpoch() {
	h.loading.Lock()
	defer h.loading.Unlock()
	h.epoch.Store(nil)
}

// group is this node's knowledge of the history of a group. The host's lock guards its fields.
type group struct {
	limits relay.HistoryLimits
	member bool      // this node receives the group's events
	used   time.Time // the last change
	// newest is the newest position that clients of this node have, as far as Commands has seen the events. identified is
	// the time of the newest event that has got a position here.
	newest     relay.Position
	identified int64
	late       lateness // the last late entry that was written

	// count and bytes estimate the events in Redis and their texts. known: Redis was asked. exact: this node has seen all
	// events since bytes was right.
	count, bytes int
	known, exact bool
	ageAt        time.Time // the next search for old events; zero: there are none
	expireAt     time.Time // the next renewal of the key; zero: at once
	metas        int       // entries without text, added since the last removal of superfluous ones
}

// group returns a group, nil if it has no history. h.mu is held.
func (h *host) group(name string) *group {
	if g := h.groups[name]; g != nil {
		return g
	}
	limits, ok := h.store.Limits(name)
	if !ok {
		return nil
	}
	g := &group{limits: limits, used: h.store.now()}
	h.groups[name] = g
	return g
}

// apply gives the groups the limits of a new policy.
func (h *host) apply(p relay.HistoryPolicy) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, g := range h.groups {
		limits, ok := p.Limits(name)
		if !ok {
			delete(h.groups, name)
			continue
		}
		if limits != g.limits {
			g.limits, g.expireAt = limits, time.Time{}
		}
	}
}

// lifetime is how long a group's key lives after the last renewal.
func (g *group) lifetime() time.Duration { return g.limits.Age + lifetimeMargin }

// lifetimeMargin is how much longer than its events a key lives.
const lifetimeMargin = time.Minute

// note notes the result of work on the host, for Trouble.
func (h *host) note(err error) {
	if err == nil {
		h.trouble.Store(nil)
		return
	}
	h.store.stats.failed.Add(1)
	if before := h.trouble.Swap(&err); before == nil {
		h.store.log.Warn("history of the channel layer unavailable", "error", err,
			"host", h.store.ring.Route(h.index).Addr(), "effect", "clients that reconnect are told that they missed events",
			"remedy", "see docs/channel-layers.md for the rights that the redis user needs")
	}
}

// refusal is an error of what Redis holds or permits.
type refusal string

func (r refusal) Error() string { return string(r) }

// rejected reports whether Redis or its content is the cause of an error, and not the connection.
func rejected(err error) bool {
	var r refusal
	return redisnet.IsReply(err) || errors.As(err, &r)
}

// healed logs that a key of another type was deleted.
func (h *host) healed(key string) {
	h.store.log.Warn("key of the relay held another type, deleted", "key", key,
		"host", h.store.ring.Route(h.index).Addr(), "remedy", "find the program that writes to it")
}

// wakeUp lets Run work on pending gaps and events now.
func (h *host) wakeUp() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}
