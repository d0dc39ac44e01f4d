package awx_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
)

// byCookie returns the value of the session cookie as the user.
func byCookie(w http.ResponseWriter, r *http.Request) {
	c, err := r.Cookie("awx_sessionid")
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, `{"results": [{"id": "`+c.Value+`"}]}`)
}

// Ten thousand browsers of fifty users that reconnect at once cause fifty requests, eight at a time.
func TestConcurrentLookupsShareRequests(t *testing.T) {
	const browsers, users, concurrency = 10_000, 50, 8
	full := make(chan struct{})
	c := newController(t, nil)
	c.setHandler(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		if c.inFlight == concurrency {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		c.mu.Unlock()
		<-full // no response before the bound is reached
		byCookie(w, r)
	})
	a := c.authorizer(t, func(s *awx.Settings) {
		s.Concurrency, s.Cache, s.Timeout = concurrency, time.Hour, time.Minute
	})
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range browsers {
		group.Go(func() {
			<-start
			name := fmt.Sprint("u", i%users)
			// Other cookies differ from tab to tab.
			id, err := a.Authenticate(handshake(fmt.Sprintf("Cookie: csrftoken=%d; awx_sessionid=%s; tab=%d", i, name, i)))
			if err != nil || id.Key != name {
				t.Errorf("%s is %+v, %v", name, id, err)
			}
		})
	}
	close(start)
	group.Wait()
	if n := len(c.requested()); n != users {
		t.Errorf("%d requests for %d users", n, users)
	}
	if c.peak != concurrency {
		t.Errorf("at most %d requests in flight, want %d", c.peak, concurrency)
	}
}

// Object lookups of one login share requests, too.
func TestConcurrentObjectLookupsShareRequests(t *testing.T) {
	c := newController(t, byCookie)
	a := c.authorizer(t, func(s *awx.Settings) { s.Cache = time.Hour })
	var group sync.WaitGroup
	for _, login := range []string{"u1", "u2"} {
		id, err := a.Authenticate(handshake("Cookie: awx_sessionid=" + login))
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			group.Go(func() {
				if err := a.Authorize(t.Context(), id, "job_events-42"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	if paths := c.requested(); len(paths) != 4 {
		t.Errorf("requested %q, want me/ and one job for each of two users", paths)
	}
}

// A failure is cached for about a second, so that a failing API is not flooded. Then it is retried.
func TestFailuresAreCachedBriefly(t *testing.T) {
	c := newController(t, reply(500, ""))
	a := c.authorizer(t, func(s *awx.Settings) { s.Cache = time.Hour })
	began := time.Now()
	for range 100 {
		if _, err := a.Authenticate(handshake(session)); err == nil {
			t.Fatal("authenticated by a failing API")
		}
	}
	if n, most := len(c.requested()), 1+int(time.Since(began).Seconds()); n > most {
		t.Errorf("%d requests to a failing API in %v", n, time.Since(began))
	}
	c.setHandler(user(`1`))
	testkit.Eventually(t, "the recovery is noticed", func() bool {
		_, err := a.Authenticate(handshake(session))
		return err == nil
	})
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("the failure was cached for only %v", took)
	}
}

func TestResponsesExpire(t *testing.T) {
	c := newController(t, user(`1`))
	const ttl = 200 * time.Millisecond
	a := c.authorizer(t, func(s *awx.Settings) { s.Cache = ttl })
	first := time.Now()
	if _, err := a.Authenticate(handshake(session)); err != nil {
		t.Fatal(err)
	}
	c.setHandler(reply(401, ""))
	testkit.Eventually(t, "the logout is noticed", func() bool {
		_, err := a.Authenticate(handshake(session))
		return errors.Is(err, relay.ErrUnauthenticated)
	})
	if took := time.Since(first); took < ttl {
		t.Errorf("the response was cached for only %v", took)
	}
}

// A canceled lookup leaves the request to the other callers. The last caller cancels the request.
func TestCanceledLookups(t *testing.T) {
	release := make(chan struct{})
	c := newController(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			user(`1`)(w, r)
		case <-r.Context().Done():
		}
	})
	inFlight := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.inFlight
	}
	a := c.authorizer(t, func(s *awx.Settings) { s.Concurrency, s.Timeout = 1, time.Minute })
	lookUp := func(ctx context.Context) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := a.Authenticate(handshake(session).WithContext(ctx))
			done <- err
		}()
		return done
	}

	ctx, cancel := context.WithCancel(t.Context())
	only := lookUp(ctx)
	testkit.Eventually(t, "the request is in flight", func() bool { return inFlight() == 1 })
	cancel()
	if err := <-only; !errors.Is(err, context.Canceled) {
		t.Errorf("the canceled lookup: %v", err)
	}
	testkit.Eventually(t, "the request is canceled", func() bool { return inFlight() == 0 })

	// The slot is free again, and the cancellation is not cached.
	ctx, cancel = context.WithCancel(t.Context())
	first, second := lookUp(ctx), lookUp(t.Context())
	testkit.Eventually(t, "the request is in flight", func() bool { return inFlight() == 1 })
	cancel()
	<-first
	close(release)
	if err := <-second; err != nil {
		t.Errorf("the remaining lookup: %v", err)
	}
}
