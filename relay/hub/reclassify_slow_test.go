package hub_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// unequalRules decide about jobs-1 at once, and about all other groups when they are released.
type unequalRules struct {
	rules
	mu       sync.Mutex
	slow     uint64
	released chan struct{}
}

func (r *unequalRules) Classify(ctx context.Context, id relay.Identity, group string) (relay.Classification, error) {
	if group == "jobs-1" {
		return r.rules.Classify(ctx, id, group)
	}
	generation := r.Generation(group)
	if generation > slowGeneration {
		select {
		case <-r.released:
		case <-ctx.Done():
			return relay.Classification{}, ctx.Err()
		}
	}
	return relay.Classification{Generation: generation}, nil
}

// slowGeneration is the first generation of the slow rules.
const slowGeneration = 1000

func (r *unequalRules) Generation(group string) uint64 {
	if group == "jobs-1" {
		return r.rules.Generation(group)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.slow
}

// A plugin that takes long to decide about its subscriptions does not delay the decisions of another, without which the
// events of that plugin's groups are withheld.
func TestSlowRulesDelayNoOthers(t *testing.T) {
	h, _ := newHub(t)
	r := &unequalRules{slow: slowGeneration, released: make(chan struct{})}
	r.decide, r.rules.generation = always(1), 1
	h.SetInterceptor(r)
	release := sync.OnceFunc(func() { close(r.released) })
	defer release()
	var sockets []*socket
	for i := range 32 {
		s := newSocket()
		session := h.Open(s, relay.Identity{Name: fmt.Sprint("user", i)}, netip.Addr{})
		var subs []relay.Subscription
		for _, group := range []string{"jobs-1", fmt.Sprint("slow-", i)} {
			sub, err := session.Authorize(t.Context(), group, false)
			if err != nil {
				t.Fatal(err)
			}
			subs = append(subs, sub)
		}
		if _, err := session.Subscribe(t.Context(), subs); err != nil {
			t.Fatal(err)
		}
		sockets = append(sockets, s)
	}
	r.mu.Lock()
	r.slow++
	r.mu.Unlock()
	for class := range uint8(3) { // the first change is together with that of the slow rules
		r.change(h, always(2+class))
		want := fmt.Sprintf("e%d for %d", class, 2+class)
		testkit.Eventually(t, "the new class of all subscriptions", func() bool {
			h.Deliver([]relay.Event{r.event(strings.Fields(want)[0])})
			for _, s := range sockets {
				if !slices.Contains(s.got(), want) {
					return false
				}
			}
			return true
		})
	}
	release()
	testkit.Eventually(t, "an end of the slow pass", func() bool {
		h.Deliver([]relay.Event{{Group: "slow-7", Text: []byte("slow"), Redaction: &relay.Redaction{
			Classes: everyClass, Generation: slowGeneration + 1,
			Render: func(uint8) ([]byte, bool) { return []byte("slow"), true },
		}}})
		return slices.Contains(sockets[7].got(), "slow")
	})
}

// A plugin that takes long to decide about its subscriptions does not delay the rechecks of other logins.
func TestSlowRulesDelayNoRechecks(t *testing.T) {
	h, _ := newHub(t)
	var class atomic.Int32
	r := &unequalRules{slow: slowGeneration, released: make(chan struct{})}
	r.rules.generation = 1
	r.decide = func(relay.Identity) (uint8, error) { return uint8(class.Load()), nil }
	h.SetInterceptor(r)
	h.SetAuthorizer(relay.Open{}, 20*time.Millisecond)
	for i := range 32 {
		session := h.Open(newSocket(), relay.Identity{ID: fmt.Sprint(i), Key: fmt.Sprint(i)}, netip.Addr{})
		sub, err := session.Authorize(t.Context(), fmt.Sprint("slow-", i), false)
		if err == nil {
			_, err = session.Subscribe(t.Context(), []relay.Subscription{sub})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r.mu.Lock()
	r.slow++
	r.mu.Unlock()
	_, s := connectTo(t, h, relay.Identity{ID: "alice", Key: "alice"})
	for want := int32(1); want < 4; want++ {
		class.Store(want)
		testkit.Eventually(t, "the new class", func() bool {
			h.Deliver([]relay.Event{r.event("a")})
			return slices.Contains(s.got(), fmt.Sprintf("a for %d", want))
		})
	}
}

var _ relay.Reclassifier = (*unequalRules)(nil)
