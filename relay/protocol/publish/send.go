package publish

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// publishTimeout bounds the time in which a request is published. It is shorter than the lease of a claim.
	publishTimeout = 10 * time.Second
	// maxLanes is the number of groups of one request that are published to beside one another.
	maxLanes = 16
	// retryLayer is the value of Retry-After while the channel layer is away.
	retryLayer = 2 * time.Second
)

// item is a publication with its results.
type item struct {
	*publication
	results results
	// alias is an earlier item of the request with the same idempotency key and the same message; its results are also
	// those of this item.
	alias *item
}

// publishing is one request in the stages of claims and publishing.
type publishing struct {
	*Endpoint
	key    *Key
	items  []item
	claims []*claim
	keeper relay.ClaimKeeper
}

// publish publishes the messages of a request that has passed all checks.
func (e *Endpoint) publish(
	ctx context.Context, k *Key, list []publication, headerID string, body []byte,
) (*Outcome, *problem) {
	// A client that goes away leaves no message half sent.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	p := &publishing{Endpoint: e, key: k, items: make([]item, len(list)), keeper: e.claimKeeper()}
	for i := range list {
		p.items[i] = item{publication: &list[i], results: make(results, len(list[i].groups))}
	}
	var wrong *problem
	if p.claims, wrong = newClaims(k, p.items, headerID, body); wrong != nil {
		return nil, wrong
	}
	if wrong := p.claim(ctx); wrong != nil {
		return nil, wrong
	}
	p.sendClaimed(ctx, p.unclaimed())
	p.await(ctx)
	return outcome(p.items), nil
}

// claim takes the claims of the request. If one belongs to another message, or the claims cannot be read, nothing is
// published.
func (p *publishing) claim(ctx context.Context) *problem {
	if len(p.claims) == 0 {
		return nil
	}
	err := acquire(ctx, p.keeper, p.claims)
	var wrong *problem
	for _, c := range p.claims {
		if c.phase == claimMismatch {
			wrong = mismatch(c.item)
			break
		}
	}
	if err != nil {
		wrong = &problem{
			Status: http.StatusServiceUnavailable, Reason: ReasonLayer, retryAfter: retryLayer, cause: err,
			Detail: "idempotency keys cannot be checked; nothing was sent; retry",
		}
	}
	switch {
	case err != nil:
		p.abandon(p.keeper, p.claims)
	case wrong != nil:
		p.settle(ctx, p.inPhase(claimOwned))
	}
	return wrong
}

func (p *publishing) inPhase(phase claimPhase) (list []*claim) {
	for _, c := range p.claims {
		if c.phase == phase {
			list = append(list, c)
		}
	}
	return list
}

// unclaimed returns the items without an idempotency key.
func (p *publishing) unclaimed() (list []*item) {
	claimed := make(map[*item]bool, len(p.claims))
	for _, c := range p.claims {
		claimed[c.item] = true
	}
	for i := range p.items {
		if it := &p.items[i]; it.alias == nil && !claimed[it] {
			list = append(list, it)
		}
	}
	return list
}

// sendClaimed publishes the items whose claims this request owns, and others, in the order of the request.
func (p *publishing) sendClaimed(ctx context.Context, others []*item) {
	owned := p.inPhase(claimOwned)
	send := make(map[*item]bool, len(owned)+len(others))
	for _, c := range owned {
		send[c.item] = true
	}
	for _, it := range others {
		send[it] = true
	}
	p.send(ctx, send)
	p.settle(ctx, owned)
	for _, c := range owned {
		c.phase = claimDone
	}
}

func (p *publishing) settle(ctx context.Context, claims []*claim) {
	if err := settle(ctx, p.keeper, claims, p.Idempotency); err != nil {
		p.Log.Warn("idempotency keys not stored", "key", p.key.Name(), "count", len(claims), "error", err)
		for _, c := range claims {
			for i := range c.item.results {
				c.item.results[i].unrecorded = c.item.results[i].sent
			}
		}
	}
}

// await waits for other requests that publish messages with the same idempotency keys. If such a request fails, this
// one publishes.
func (p *publishing) await(ctx context.Context) {
	deadline := time.Now().Add(p.waitTimeout())
	for interval := waitInterval; ; interval = min(2*interval, maxWaitInterval) {
		held := p.inPhase(claimHeld)
		if len(held) == 0 {
			return
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			for _, c := range held {
				c.item.results.fail(failedProgress)
			}
			return
		}
		time.Sleep(interval)
		if err := acquire(ctx, p.keeper, held); err != nil {
			p.Log.Warn("idempotency keys not readable", "key", p.key.Name(), "count", len(held), "error", err)
		}
		for _, c := range held {
			if c.phase == claimMismatch { // the other request gave up, and a third one used the key
				c.item.results.fail(failedProgress)
			}
		}
		p.sendClaimed(ctx, nil)
	}
}

// unit is one message for one group.
type unit struct {
	item  *item
	group int
}

// send publishes items: in order within each group, up to maxLanes groups beside one another.
func (p *publishing) send(ctx context.Context, items map[*item]bool) {
	if len(items) == 0 {
		return
	}
	lanes, order := map[string][]unit{}, []string(nil)
	for i := range p.items {
		it := &p.items[i]
		if !items[it] {
			continue
		}
		for j, group := range it.groups {
			if it.results[j].sent { // by an earlier request
				continue
			}
			if lanes[group] == nil {
				order = append(order, group)
			}
			lanes[group] = append(lanes[group], unit{it, j})
		}
	}
	if len(order) == 1 {
		p.sendLane(ctx, lanes[order[0]])
		return
	}
	var workers sync.WaitGroup
	slots := make(chan struct{}, maxLanes)
	for _, group := range order {
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			p.sendLane(ctx, lanes[group])
		})
	}
	workers.Wait()
}

// sendLane publishes messages to one group. After a failure, later messages are not sent, so that a retry keeps the
// order.
func (p *publishing) sendLane(ctx context.Context, lane []unit) {
	var failed *failure
	for _, u := range lane {
		r := &u.item.results[u.group]
		switch {
		case failed != nil:
			r.failure = failedEarlier
			continue
		case ctx.Err() != nil:
			failed = failedTimeout
		default:
			m := u.item.message
			m.Group = u.item.groups[u.group]
			receipt, err := p.Publisher.PublishMessage(ctx, m)
			if err == nil {
				*r = result{sent: true, receipt: receipt}
				continue
			}
			p.Log.Warn("message not published", "key", p.key.Name(), "group", m.Group, "error", err)
			if failed = failedLayer; errors.Is(err, relay.ErrClosed) {
				failed = failedClosed
			}
		}
		r.failure = failed
	}
}
