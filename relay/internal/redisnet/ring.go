package redisnet

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

// RingIndex returns the index of the host, of n, that keeps a group (by name) or messages (by receiver). This is the
// consistent hashing of channels_redis 4, by the low 12 bits of a CRC-32.
func RingIndex(value string, n int) int {
	if n == 1 {
		return 0
	}
	return int(float64(crc32.ChecksumIEEE([]byte(value))&0xfff) / (4096 / float64(n)))
}

// retirement is how long a replaced client stays open, for commands in flight.
const retirement = 15 * time.Second

// Ring is the hosts of an open layer. The routes to them can change; their number cannot.
type Ring struct {
	Size   int
	routes atomic.Pointer[[]*Route]
	Trips  trips // of all hosts and routes

	mu      sync.Mutex
	hosts   Hosts
	retired []*Route
	closed  bool
}

func NewRing(h Hosts) (*Ring, error) {
	routes, err := h.routes()
	if err != nil {
		return nil, err
	}
	r := &Ring{Size: len(routes), hosts: h}
	r.countTrips(routes)
	r.routes.Store(&routes)
	return r, nil
}

// WarnIgnored logs the options of URLs that are ignored.
func (r *Ring) WarnIgnored(log *slog.Logger) {
	for host := range r.Size {
		if route := r.Route(host); len(route.ignored) > 0 {
			log.Warn("options of a redis url ignored", "host", route.Addr(),
				"options", strings.Join(route.ignored, ", "),
				"remedy", "remove them, or see the settings of 'pool' in the block of channel_layer redis")
		}
	}
}

// countTrips counts the round trips of routes.
func (r *Ring) countTrips(routes []*Route) {
	for _, route := range routes {
		route.client.AddHook(tripHook{&r.Trips})
	}
}

// Index returns the host that keeps value.
func (r *Ring) Index(value string) int { return RingIndex(value, r.Size) }

func (r *Ring) Route(host int) *Route { return (*r.routes.Load())[host] }

func (r *Ring) Client(host int) *goredis.Client { return r.Route(host).client }

// Apply replaces the routes if h differs in any setting, such as a password, and reports the change.
func (r *Ring) Apply(h Hosts) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || reflect.DeepEqual(h, r.hosts) {
		return false, nil
	}
	routes, err := h.routes()
	if err != nil {
		return false, err
	}
	r.countTrips(routes)
	old := *r.routes.Swap(&routes)
	r.hosts = h
	r.retired = append(r.retired, old...)
	time.AfterFunc(retirement, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.closed {
			r.retired = r.retired[len(old):]
			closeAll(old)
		}
	})
	return true, nil
}

func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed = true
		closeAll(r.retired)
		closeAll(*r.routes.Load())
	}
}

func closeAll(routes []*Route) {
	for _, r := range routes {
		r.close()
	}
}
