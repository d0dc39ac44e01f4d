package publish

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// lease is the lifetime of a claim whose message is being published. It is longer than a request takes. If a node
	// stops in between, a retry publishes again after this time.
	lease = 30 * time.Second
	// waitTimeout bounds the time for which a request waits for another one with the same idempotency key, and
	// waitInterval and maxWaitInterval are the times between two looks.
	waitTimeout     = 5 * time.Second
	waitInterval    = 5 * time.Millisecond
	maxWaitInterval = 200 * time.Millisecond
	// settleTimeout bounds the time for which a result is stored.
	settleTimeout = 5 * time.Second
	// gripWindow is the time for which a second item of GRIP with the same channel and id is not published, as in
	// Pushpin.
	gripWindow = time.Minute
)

// claim is the right to publish a message with an idempotency key, and later its result. Its value in the channel layer
// is "<phase>|<fingerprint>|<token>|<results>".
type claim struct {
	item  *item
	key   string
	print string // fingerprint of the message
	token string // of this request; empty once the message is published
	phase claimPhase
	// value is the claim as it stands in the channel layer, as far as known.
	value string
}

// claimPhase is the state of a claim from the view of one request.
type claimPhase uint8

const (
	// claimUnknown: not asked for yet.
	claimUnknown claimPhase = iota
	// claimOwned: this request publishes the message.
	claimOwned
	// claimHeld: another request publishes the message.
	claimHeld
	// claimDone: the message has been published, and the results are known.
	claimDone
	// claimMismatch: the idempotency key belongs to another message.
	claimMismatch
)

// newClaims returns the claims of the items with an idempotency key. An item whose id another item has is its alias.
func newClaims(k *Key, items []item, headerID string, body []byte) (claims []*claim, _ *problem) {
	token := rand.Text()
	seen := map[string]*claim{}
	for i := range items {
		it := &items[i]
		c := &claim{item: it, token: token}
		switch {
		case it.grip && it.id != "": // whatever the item is, as in Pushpin
			c.key, c.print = claimKey(k.Name(), "grip", it.message.Group, it.id), "grip"
		case it.id != "":
			c.key = claimKey(k.Name(), "message", it.id)
			c.print = fingerprint(it.publication)
		case headerID != "":
			c.key = claimKey(k.Name(), "request", headerID, strconv.Itoa(i))
			sum := sha256.Sum256(body)
			c.print = hex.EncodeToString(sum[:8])
		default:
			continue
		}
		if first := seen[c.key]; first == nil {
			seen[c.key] = c
			claims = append(claims, c)
		} else if first.print != c.print {
			return nil, mismatch(it)
		} else {
			it.alias = first.item
		}
	}
	return claims, nil
}

func mismatch(it *item) *problem {
	pointer := it.pointer
	if it.id != "" {
		pointer += "/id"
	}
	return &problem{
		Status: http.StatusUnprocessableEntity, Reason: ReasonMismatch, Pointer: pointer,
		Detail: "the idempotency key was used for another message; use a new key for each message",
	}
}

// claimKey returns the name of a claim in the channel layer.
func claimKey(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// fingerprint tells two messages apart.
func fingerprint(p *publication) string {
	h := sha256.New()
	for _, part := range [][]string{{p.message.Type}, p.groups, p.message.Binary, {string(p.message.Text)}} {
		fmt.Fprintf(h, "%q\n", part)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// owned returns the value of the claim while this request publishes the message.
func (c *claim) owned() string { return "p|" + c.print + "|" + c.token + "|" + c.item.results.encode() }

// settled returns the value after the request: the results, or nothing if no group got the message.
func (c *claim) settled() string {
	if !slices.ContainsFunc(c.item.results, func(r result) bool { return r.sent }) {
		return ""
	}
	return "d|" + c.print + "||" + c.item.results.encode()
}

// observe takes the value that the claim has in the channel layer.
func (c *claim) observe(value string) {
	c.value = value
	if value == c.owned() {
		c.phase = claimOwned
		return
	}
	phase, rest, _ := strings.Cut(value, "|")
	print, rest, _ := strings.Cut(rest, "|")
	_, results, _ := strings.Cut(rest, "|")
	switch {
	case value == "":
		c.phase = claimUnknown
	case print != c.print:
		c.phase = claimMismatch
	case phase == "p":
		c.phase = claimHeld
	case !c.item.results.decode(results):
		c.phase = claimMismatch
	case c.item.results.complete():
		c.phase = claimDone
	default:
		c.phase = claimUnknown // the groups that failed are to be published again
	}
}

// next returns the change that takes the claim for this request.
func (c *claim) next() relay.ClaimSwap {
	swap := relay.ClaimSwap{Key: c.key, To: c.owned(), Lifetime: lease}
	if c.phase == claimUnknown {
		swap.From = c.value
	}
	return swap
}

// acquire tries to take claims. Afterwards no phase is unknown.
func acquire(ctx context.Context, keeper relay.ClaimKeeper, claims []*claim) error {
	const tries = 8 // each try after the first answers a change by another request
	for range tries {
		swaps := make([]relay.ClaimSwap, len(claims))
		for i, c := range claims {
			swaps[i] = c.next()
		}
		values, err := keeper.SwapClaims(ctx, swaps)
		if err != nil {
			return err
		}
		var unknown []*claim
		for i, c := range claims {
			if c.observe(values[i]); c.phase == claimUnknown {
				unknown = append(unknown, c)
			}
		}
		if claims = unknown; len(claims) == 0 {
			return nil
		}
	}
	for _, c := range claims {
		c.phase = claimHeld
	}
	return nil
}

// settle stores the results of claims that this request owns. If that fails, the claims end with their lease.
func settle(ctx context.Context, keeper relay.ClaimKeeper, claims []*claim, window time.Duration) error {
	if len(claims) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	swaps := make([]relay.ClaimSwap, len(claims))
	for i, c := range claims {
		swaps[i] = relay.ClaimSwap{Key: c.key, From: c.value, To: c.settled(), Lifetime: window}
		if c.item.grip && c.item.id != "" {
			swaps[i].Lifetime = min(window, gripWindow)
		}
	}
	_, err := keeper.SwapClaims(ctx, swaps)
	return err
}

// maxAbandoned is the number of requests of an endpoint whose claims are being given back.
const maxAbandoned = 64

// abandon gives back claims of a request that published nothing because the channel layer did not answer: the layer may
// take them later, and they would block their ids until the end of the lease. It tries until the layer answers, and
// once more, because the layer may take a change after a later one.
func (e *Endpoint) abandon(keeper relay.ClaimKeeper, claims []*claim) {
	select {
	case e.abandoning <- struct{}{}:
	default:
		return // the lease ends the claims
	}
	swaps := make([]relay.ClaimSwap, len(claims))
	for i, c := range claims {
		swaps[i] = relay.ClaimSwap{Key: c.key, From: c.owned(), Lifetime: lease}
	}
	go func() {
		defer func() { <-e.abandoning }()
		ctx, cancel := context.WithTimeout(context.Background(), lease)
		defer cancel()
		for answers := 0; answers < 2 && ctx.Err() == nil; {
			if _, err := keeper.SwapClaims(ctx, swaps); err == nil {
				answers++
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
}
