package site

import (
	"context"
	"errors"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/internal/authority"
)

// Probe is the result of a question without credentials.
type Probe struct {
	// User is the user that the endpoint names; empty: it denies the login, as it should.
	User string
	// Err is the error if the endpoint does not answer.
	Err error
	// Took is the time until the answer.
	Took time.Duration
}

// Probe asks the endpoint about a client without credentials.
func (a *Authorizer) Probe(ctx context.Context) (p Probe) {
	began := time.Now()
	u, err := a.client.ask(ctx, &credentials{proto: "http"}, authority.UserRequester(authority.ClassRecheck, ""), "")
	p.Took = time.Since(began)
	switch {
	case err == nil:
		p.User = u.id.Key
	case !errors.Is(err, relay.ErrUnauthenticated):
		p.Err = err
	}
	return p
}
