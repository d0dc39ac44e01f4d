package presence

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that a test sets.
type clock struct{ millis atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.millis.Store(1_764_378_000_000)
	return c
}

func (c *clock) now() time.Time          { return time.UnixMilli(c.millis.Load()) }
func (c *clock) advance(d time.Duration) { c.millis.Add(d.Milliseconds()) }

// layer is a channel layer that only runs scripts.
type layer struct{ ring *redisnet.Ring }

func newLayer(t testing.TB, urls ...string) *layer {
	t.Helper()
	ring, err := redisnet.NewRing(redisnet.Hosts{URLs: urls})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ring.Close)
	return &layer{ring}
}

func (l *layer) Shards() int                         { return l.ring.Size }
func (l *layer) Shard(group string) int              { return l.ring.Index(group) }
func (l *layer) KeyPrefix(_ int, name string) string { return "edgerelay:" + name + ":asgi:" }
func (l *layer) flush(t testing.TB, shard int)       { l.do(t, shard, "FLUSHALL") }
func (l *layer) do(t testing.TB, shard int, args ...any) {
	t.Helper()
	if err := l.ring.Client(shard).Do(context.Background(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

func (l *layer) RunScript(ctx context.Context, shard int, script string, keys []string, args ...any) (any, error) {
	return redisnet.RunScript(ctx, l.ring.Client(shard), script, keys, args...)
}

// eachStore runs a test with every store, and a clock that the test sets. empty empties the store.
func eachStore(t *testing.T, times Times, test func(t *testing.T, s Store, c *clock, empty func())) {
	t.Run("memory", func(t *testing.T) {
		c := newClock()
		m := NewMemory(times, c.now)
		test(t, m, c, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.reset()
			m.began = c.now()
		})
	})
	t.Run("redis", func(t *testing.T) {
		c := newClock()
		l := newLayer(t, peers.StartRedis(t).URL)
		r := NewRedis(l, times)
		r.now = c.now
		// The first registration begins an epoch, in which nothing is announced for a while.
		if _, err := r.Register(context.Background(), 0, Registration{Node: "first"}); err != nil {
			t.Fatal(err)
		}
		if err := r.Remove(context.Background(), 0, "first"); err != nil {
			t.Fatal(err)
		}
		c.advance(r.times.Settle)
		test(t, r, c, func() { l.flush(t, 0) })
	})
}

// heard collects what trackers publish: the state of each group that a page would show.
type heard struct {
	mu       sync.Mutex
	lines    []string
	fail     func(m relay.Message) error
	messages []relay.Message
}

func (h *heard) publish(_ context.Context, m relay.Message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		if err := h.fail(m); err != nil {
			return err
		}
	}
	h.messages = append(h.messages, m)
	h.lines = append(h.lines, fmt.Sprintf("%s %s %s", m.Group, m.Type, m.Text))
	return nil
}

func (h *heard) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string{}, h.lines...)
}

// usual is a policy with a short grace period.
var usual = &Policy{Grace: 100 * time.Millisecond, AnnounceUpTo: 100}
