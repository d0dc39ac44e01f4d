//go:build soak

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// orders is a part: events that all nodes watch without a client. The function of one node makes one HTTP request for
// each.
type orders struct {
	s       *site
	emitter *redis.Broker
	plays   int

	sent, made, again atomic.Int64
}

func (p *orders) run(ctx context.Context) {
	p.plays++
	var l ledger
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		l.publish(false, func(n int) (relay.Receipt, error) {
			return p.emitter.Publish(context.Background(), "orders-1", p.order(n))
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	p.settle(&l)
}

// name is the body of an order's request.
func (p *orders) name(n int) string { return fmt.Sprint("order ", p.plays, ".", n) }

// order is an event that makes the function request something once for all nodes.
func (p *orders) order(n int) []byte {
	request, err := json.Marshal(map[string]any{"method": "POST", "url": p.s.hooks.url + "/order", "once": p.name(n)})
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(map[string]any{"do": "fetch", "key": string(request), "value": p.name(n), "context": "once"})
	if err != nil {
		panic(err)
	}
	return text
}

// claimLasts is the time after which a node takes over the request of a dead one: the timeout of a request, and the
// margin.
const claimLasts = 10 * time.Second

// excused reports whether a fault explains a missing request: the event, or its claim in the state's Redis, was lost. A
// node that takes over needs that Redis when the claim of a dead node ends.
func (p *orders) excused(e fate) bool {
	tr := p.s.trouble
	return tr.happened(e.at.Add(-transit), e.done.Add(settle), storeDown, stateDown) ||
		tr.happened(e.at.Add(-transit), e.done.Add(settle), nearDown) &&
			tr.happened(e.at, e.done.Add(claimLasts+settle), stateDown)
}

// settle waits for the requests, and judges them. A request may be missing or come twice only with a fault.
func (p *orders) settle(l *ledger) {
	missing := func() (list []int) {
		for n, e := range l.events {
			if e.err == nil && p.s.hooks.times(p.name(n)) == 0 && !p.excused(e) {
				list = append(list, n)
			}
		}
		return list
	}
	_ = testkit.Poll(testkit.Patience, nil, func() error {
		if list := missing(); len(list) > 0 {
			return fmt.Errorf("%d", len(list))
		}
		return nil
	})
	for i, n := range missing() {
		if e := l.events[n]; i < 10 {
			p.s.faultAt(e.at, "fetch: %s, published to %d members, was not requested", p.name(n), e.receipt.Members)
		}
	}
	for n, e := range l.events {
		times := p.s.hooks.times(p.name(n))
		p.sent.Add(1)
		p.made.Add(int64(times))
		if times > 1 {
			p.again.Add(1)
			if !p.s.trouble.happened(e.at.Add(-transit), e.done.Add(time.Minute), stateDown, nearDown) {
				p.s.faultAt(e.at, "fetch: %s was requested %d times, and no fault explains it", p.name(n), times)
			}
		}
	}
}

func (p *orders) work() []count {
	return []count{{name: "fetch: orders", n: p.sent.Load()}, {name: "requests made once for all nodes", n: p.made.Load()}}
}
