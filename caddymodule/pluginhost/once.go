package pluginhost

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay/outbound"
)

const (
	// oncePrefix begins the keys of claims among the plugin's own in the shared store.
	oncePrefix = "fetch/once/"
	// onceDone is the value of a claim whose request has been made. Others begin with oncePending.
	onceDone    = "done"
	oncePending = "pending:"
	// onceMargin is how much longer a claim holds than its request takes at most.
	onceMargin = 5 * time.Second
	// oncePoll is how often a node looks at a claim of another one, with up to as much again by chance.
	oncePoll = 200 * time.Millisecond
)

// claim is the right of one node to make a request that all nodes want to make once.
// See docs/decisions/functions.md#why-does-a-node-claim-a-request-before-it-makes-it
type claim struct {
	services    *atomic.Pointer[plugins.Services] // a reload may replace the store at any time
	plugin, key string
	own         []byte
}

// once makes a request unless another node, or this one, has made it lately. While another node is about to make it,
// once waits: if that node fails or dies, this one takes over. The wait goes on while the store fails: the other node
// may have died with it.
func (f *requests) once(c *requester, p *Plugin, req *outbound.Request, slot *outbound.Slot) plugins.Response {
	if services := f.host.services.Load(); services == nil || services.Shared == nil {
		return f.response(p, req, outbound.Result{
			Outcome: outbound.Unavailable, Reason: "once needs the shared store, which this node does not have",
		})
	}
	sum, id := sha256.Sum256([]byte(req.Once)), make([]byte, 12)
	_, _ = rand.Read(id)
	own := &claim{
		&f.host.services, p.Name, oncePrefix + hex.EncodeToString(sum[:16]), []byte(oncePending + hex.EncodeToString(id)),
	}
	lease := slot.Timeout() + onceMargin
	waits := false
	for deadline := time.Now().Add(2 * lease); ; waits = true {
		switch r := own.take(lease); {
		case r.Status == plugins.StatusOK:
			return f.claimed(own, p, req, slot)
		case waits && r.Status == plugins.StatusUnavailable && time.Now().Before(deadline):
		case r.Status != plugins.StatusConflict:
			reason := "the shared store did not take the claim of once"
			if r.Status == plugins.StatusTooLarge {
				reason = "the plugin's shared store is full"
			}
			return f.response(p, req, outbound.Result{Outcome: outbound.Unavailable, Reason: reason})
		case string(r.Body) == onceDone:
			c.claimed.Add(1)
			return refused(plugins.StatusConflict, "the request has been made")
		case time.Now().After(deadline):
			return f.response(p, req, outbound.Result{
				Outcome: outbound.Unavailable, Reason: "another node goes on claiming the request",
			})
		}
		if !pause(slot.Closing()) {
			return refused(plugins.StatusUnavailable, "the relay is stopping")
		}
	}
}

// claimed makes the request, and tells the other nodes whether they need to.
func (f *requests) claimed(own *claim, p *Plugin, req *outbound.Request, slot *outbound.Slot) plugins.Response {
	r := f.response(p, req, slot.Do())
	if settles(r.Status) {
		own.swap(own.own, []byte(onceDone), p.Fetch.onceFor())
	} else {
		own.swap(own.own, nil, 0)
	}
	return r
}

// settles reports whether a response is the last word about a request, so that no other node tries.
func settles(status int32) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status >= 100 && status < 500
}

// take sets the claim unless there is one. An earlier call may have set it although the store's response was lost: take
// then renews it.
func (c *claim) take(lease time.Duration) plugins.Response {
	r := c.swap(nil, c.own, lease)
	if r.Status == plugins.StatusConflict && bytes.Equal(r.Body, c.own) {
		return c.swap(c.own, c.own, lease)
	}
	return r
}

func (c *claim) swap(expected, value []byte, ttl time.Duration) plugins.Response {
	services := c.services.Load()
	if services == nil || services.Shared == nil {
		return plugins.Response{Status: plugins.StatusUnavailable}
	}
	end := make(chan plugins.Response, 1)
	services.Shared.Start(&plugins.Request{
		Plugin: c.plugin, Op: plugins.SharedSwap, Key: c.key, Expected: expected, Value: value, TTL: ttl,
	}, func(r plugins.Response) { end <- r })
	return <-end
}

// pause waits before the next look at a claim, and reports whether there is one.
func pause(closing <-chan struct{}) bool {
	extra, _ := rand.Int(rand.Reader, big.NewInt(int64(oncePoll)))
	timer := time.NewTimer(oncePoll + time.Duration(extra.Int64()))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-closing:
		return false
	}
}
