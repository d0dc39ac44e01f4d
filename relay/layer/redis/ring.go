package redis

import (
	"hash/crc32"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// ringIndex says which of n hosts keeps value: groups by their name, messages by the receiver's
// (channels_redis 4, consistent hashing by the low 12 bits of a CRC-32).
func ringIndex(value string, n int) int {
	if n == 1 {
		return 0
	}
	return int(float64(crc32.ChecksumIEEE([]byte(value))&0xfff) / (4096 / float64(n)))
}

// retireAfter is how long a client stays open that has been replaced, for what is under way on it.
const retireAfter = 15 * time.Second

// ring is the hosts of an open layer. How they are reached can change, how many they are cannot.
type ring struct {
	size   int
	routes atomic.Pointer[[]*route]
	trips  trips // over all hosts, and routes

	mu      sync.Mutex
	hosts   Hosts
	retired []*route
	closed  bool
}

func newRing(h Hosts) (*ring, error) {
	routes, err := h.routes()
	if err != nil {
		return nil, err
	}
	r := &ring{size: len(routes), hosts: h}
	r.watch(routes)
	r.routes.Store(&routes)
	return r, nil
}

// tell logs which options of URLs mean nothing.
func (r *ring) tell(log *slog.Logger) {
	for host := range r.size {
		if route := r.route(host); len(route.ignored) > 0 {
			log.Warn("options of a redis url ignored", "host", route.addr(),
				"options", strings.Join(route.ignored, ", "),
				"remedy", "remove them, or see channel_layer redis { pool { … } }")
		}
	}
}

// watch counts the round trips of routes.
func (r *ring) watch(routes []*route) {
	for _, route := range routes {
		route.client.AddHook(tripHook{&r.trips})
	}
}

// index is the host that keeps value.
func (r *ring) index(value string) int { return ringIndex(value, r.size) }

func (r *ring) route(host int) *route { return (*r.routes.Load())[host] }

func (r *ring) client(host int) *goredis.Client { return r.route(host).client }

// apply replaces the routes if h differs in anything, such as a password, and tells so.
func (r *ring) apply(h Hosts) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || reflect.DeepEqual(h, r.hosts) {
		return false, nil
	}
	routes, err := h.routes()
	if err != nil {
		return false, err
	}
	r.watch(routes)
	old := *r.routes.Swap(&routes)
	r.hosts = h
	r.retired = append(r.retired, old...)
	time.AfterFunc(retireAfter, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.closed {
			r.retired = r.retired[len(old):]
			closeAll(old)
		}
	})
	return true, nil
}

func (r *ring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed = true
		closeAll(r.retired)
		closeAll(*r.routes.Load())
	}
}

func closeAll(routes []*route) {
	for _, r := range routes {
		r.close()
	}
}
