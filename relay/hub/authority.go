package hub

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// SetAuthorizer replaces the authorizer. From now on it rechecks open sessions every recheck (0: never), and once
// within a second or two if its predecessor was of another kind.
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
	if before == nil || *before == relay.Authorizer(denyAll{}) { // which admitted no client
		return
	}
	if reflect.TypeOf(*before) != reflect.TypeOf(a) {
		h.recheckAllSoon()
	}
}

// Authorizer returns the current authorizer.
func (h *Hub) Authorizer() relay.Authorizer { return *h.authorizer.Load() }

// SetRecheckGrace sets the time that a session stays open since the last certain answer about its login: 0 closes it
// at the first recheck without one, [relay.NoGrace] never.
func (h *Hub) SetRecheckGrace(grace time.Duration) { h.recheckGrace.Store(int64(grace)) }

// SetProtocol sets how clients are told that a recheck has ended their login or some of their subscriptions.
func (h *Hub) SetProtocol(p relay.Protocol) { h.protocol.Store(&p) }

// endLogin closes the socket of a client whose login has ended.
func (h *Hub) endLogin(socket relay.Socket) {
	if p := h.protocol.Load(); p != nil {
		(*p).EndLogin(socket)
		return
	}
	socket.Close(relay.CloseNormal, "")
}

// denyAll is the authorizer of a hub without one.
type denyAll struct{}

var errNoAuthorizer = errors.New("auth is not configured")

func (denyAll) Authenticate(*http.Request) (relay.Identity, error) {
	return relay.Identity{}, errNoAuthorizer
}

func (denyAll) Authorize(context.Context, relay.Identity, string, string) error {
	return errNoAuthorizer
}

func (denyAll) Recheck(context.Context, relay.Identity) error { return errNoAuthorizer }
