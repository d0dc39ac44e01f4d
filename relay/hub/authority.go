package hub

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// SetAuthorizer replaces the authorizer. The new authorizer rechecks open sessions every recheck (0: never). After a
// change to another kind of authorizer, all sessions are rechecked within a second or two.
func (h *Hub) SetAuthorizer(a relay.Authorizer, recheck time.Duration) {
	if s, ok := a.(relay.Successor); ok && h.authorizer.Load() != nil {
		s.Succeed(h.Authorizer())
	}
	before := h.authorizer.Swap(&a)
	if h.recheck.Swap(int64(recheck)) == 0 && recheck > 0 {
		now := time.Now()
		for _, s := range h.allSessions() {
			h.rechecks.add(s, now)
		}
	}
	h.rechecks.signal()
	if before == nil || *before == relay.Authorizer(denyAll{}) { // no client was admitted
		return
	}
	if !sameKind(*before, a) {
		h.recheckAllSoon()
	}
}

// sameKind reports whether clients of one authorizer can wait for their next recheck by another one.
func sameKind(before, after relay.Authorizer) bool {
	if c, ok := after.(relay.KindComparer); ok {
		return c.SameKind(before)
	}
	return reflect.TypeOf(before) == reflect.TypeOf(after)
}

// Authorizer returns the current authorizer.
func (h *Hub) Authorizer() relay.Authorizer { return *h.authorizer.Load() }

// SetRecheckGrace sets the time that a session stays open after the last certain result about its login: 0 closes the
// session at the first recheck without a certain result, [relay.NoGrace] never.
func (h *Hub) SetRecheckGrace(grace time.Duration) { h.recheckGrace.Store(int64(grace)) }

// SetProtocol sets the encoding of messages about ended logins and subscriptions.
func (h *Hub) SetProtocol(p relay.Protocol) {
	h.protocol.Store(&p)
	h.envelopes.Store(nil)
	if positions, ok := p.(relay.PositionProtocol); ok {
		f := framer(envelopes{positions})
		h.envelopes.Store(&f)
	}
}

// denyAll is the authorizer until SetAuthorizer is called.
type denyAll struct{}

var errNoAuthorizer = errors.New("auth is not configured")

func (denyAll) Authenticate(*http.Request) (relay.Identity, error) {
	return relay.Identity{}, errNoAuthorizer
}

func (denyAll) Authorize(context.Context, relay.Identity, string) error {
	return errNoAuthorizer
}

func (denyAll) Recheck(context.Context, relay.Identity) error { return errNoAuthorizer }
