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

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
)

// byCookie names as the user whatever the session cookie is.
func byCookie(w http.ResponseWriter, r *http.Request) {
	c, err := r.Cookie("awx_sessionid")
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, `{"results": [{"id": "`+c.Value+`"}]}`)
}

// Ten thousand browsers of fifty users that come back at once cost fifty questions, eight at a time.
func TestConcurrentAskersShare(t *testing.T) {
	const askers, users, concurrency = 10_000, 50, 8
	full := make(chan struct{})
	c := newController(t, nil)
	c.become(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		if c.inside == concurrency {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		c.mu.Unlock()
		<-full // nobody is answered before the bound is reached
		byCookie(w, r)
	})
	a := c.authorizer(t, func(s *awx.Settings) { s.Concurrency, s.Cache, s.Timeout = concurrency, time.Hour, time.Minute })
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range askers {
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
	if asked := len(c.asked()); asked != users {
		t.Errorf("%d requests for %d users", asked, users)
	}
	if c.most != concurrency {
		t.Errorf("%d requests at once, want %d", c.most, concurrency)
	}
}

// Answers about objects are shared, too, and by the same login only.
func TestObjectAnswersAreShared(t *testing.T) {
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
				if err := a.Authorize(t.Context(), id, "job_events", "42"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	if asked := c.asked(); len(asked) != 4 {
		t.Errorf("asked for %q, want me and one job for each of two users", asked)
	}
}

// A failure is remembered for about a second, so that an API in trouble is not asked by everybody; then it gets another chance.
func TestFailuresAreRememberedBriefly(t *testing.T) {
	c := newController(t, reply(500, ""))
	a := c.authorizer(t, func(s *awx.Settings) { s.Cache = time.Hour })
	began := time.Now()
	for range 100 {
		if _, err := a.Authenticate(handshake(session)); err == nil {
			t.Fatal("let in")
		}
	}
	if asked, most := len(c.asked()), 1+int(time.Since(began).Seconds()); asked > most {
		t.Errorf("an API in trouble was asked %d times in %v", asked, time.Since(began))
	}
	c.become(user(`1`))
	eventually(t, "the API has recovered", func() bool {
		_, err := a.Authenticate(handshake(session))
		return err == nil
	})
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("the failure was forgotten after %v", took)
	}
}

func TestAnswersExpire(t *testing.T) {
	c := newController(t, user(`1`))
	const keep = 200 * time.Millisecond
	a := c.authorizer(t, func(s *awx.Settings) { s.Cache = keep })
	first := time.Now()
	if _, err := a.Authenticate(handshake(session)); err != nil {
		t.Fatal(err)
	}
	c.become(reply(401, ""))
	eventually(t, "the logout is noticed", func() bool {
		_, err := a.Authenticate(handshake(session))
		return errors.Is(err, relay.ErrUnauthenticated)
	})
	if took := time.Since(first); took < keep {
		t.Errorf("the answer was good for %v only", took)
	}
}

// A caller who gives up leaves the others their answer; a question that nobody waits for is dropped.
func TestGivingUp(t *testing.T) {
	release := make(chan struct{})
	c := newController(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			user(`1`)(w, r)
		case <-r.Context().Done():
		}
	})
	underWay := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.inside
	}
	a := c.authorizer(t, func(s *awx.Settings) { s.Concurrency, s.Timeout = 1, time.Minute })
	ask := func(ctx context.Context) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := a.Authenticate(handshake(session).WithContext(ctx))
			done <- err
		}()
		return done
	}

	impatient, give := context.WithCancel(t.Context())
	only := ask(impatient)
	eventually(t, "the question is under way", func() bool { return underWay() == 1 })
	give()
	if err := <-only; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who gave up: %v", err)
	}
	eventually(t, "the question is dropped", func() bool { return underWay() == 0 })

	// Its turn is free, and that it was dropped is nobody's answer.
	impatient, give = context.WithCancel(t.Context())
	first, second := ask(impatient), ask(t.Context())
	eventually(t, "the question is under way", func() bool { return underWay() == 1 })
	give()
	<-first
	close(release)
	if err := <-second; err != nil {
		t.Errorf("the one who stayed: %v", err)
	}
}
