package webhttp

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Failure is a request without a valid answer.
type Failure struct {
	At  time.Time
	Err error
}

// failed counts and keeps a failure.
func (b *Backend) failed(err error) {
	b.Stats.Failed.Add(1)
	b.last.Store(&Failure{time.Now(), err})
}

// LastFailure returns the last request without a valid answer, nil if there was none.
func (b *Backend) LastFailure() *Failure { return b.last.Load() }

// Bounds returns the greatest number of concurrent requests, and of connections that wait for one.
func (b *Backend) Bounds() (concurrency, queue int) {
	c := b.current.Load()
	return c.Concurrency, c.Queue
}

// Probe asks the backend for its path with a plain GET, which begins no connection, and returns the status of the
// response. The request waits for no turn: a backend that is only busy answers late, or not before ctx ends.
func (b *Backend) Probe(ctx context.Context) (status int, err error) {
	c := b.current.Load()
	target := *c.URL
	if target.Path == "" {
		target.Path = "/"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.Transport.RoundTrip(r)
	if err != nil {
		return 0, fmt.Errorf("no answer: %w", err)
	}
	return resp.StatusCode, resp.Body.Close()
}
