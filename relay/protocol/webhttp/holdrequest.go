package webhttp

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// httpQuestion is the part of a question that is an HTTP request of a held client.
type httpQuestion struct {
	method, contentType string
	// last are the values of the headers Grip-Last, sorted.
	last []string
	// shared is set for a request without any header of the client. Clients that ask the same share an answer, if it is
	// from a time after since: the client knows of an item then.
	shared bool
	since  time.Time
}

// header returns the request's own headers.
func (q *httpQuestion) header(h http.Header) http.Header {
	h["Accept"] = []string{"*/*"}
	if q.contentType != "" {
		h["Content-Type"] = []string{q.contentType}
	}
	h["Grip-Last"] = append(h["Grip-Last"], q.last...)
	h["Grip-Feature"] = []string{lastFeatures}
	return h
}

// flights are the requests that clients can share: those in progress, and the last answers.
type flights struct {
	mu      sync.Mutex // guards current
	current map[string]*flight
}

// flight is a request. Its result is set when done is closed.
type flight struct {
	began  time.Time
	done   chan struct{}
	answer *answer
	err    error
}

// answerTime is the time for which an answer can be shared. Clients that miss the same item ask within times.maxGrace.
const answerTime = time.Second

// fetch sends the request of a held client once, or shares one that began after q.http.since. Only an answer with a
// status of success is one. began is the time from which the answer is.
func (b *Backend) fetch(q *question) (a *answer, began time.Time, err error) {
	if !q.http.shared {
		began = time.Now()
		a, err = b.fetchAlone(q)
		return a, began, err
	}
	key := strings.Join(slices.Concat([]string{q.http.method, q.host.Value(), q.uri, q.shared.Value()}, q.http.last), "\n")
	all := &b.flights
	all.mu.Lock()
	if f := all.current[key]; f != nil && !f.began.Before(q.http.since) {
		all.mu.Unlock()
		b.Stats.Shared.Add(1)
		<-f.done
		return f.answer, f.began, f.err
	}
	f := &flight{began: time.Now(), done: make(chan struct{})}
	if all.current == nil {
		all.current = map[string]*flight{}
	}
	all.current[key] = f
	all.mu.Unlock()
	f.answer, f.err = b.fetchAlone(q)
	close(f.done)
	if f.err != nil {
		all.remove(key, f)
	} else {
		time.AfterFunc(answerTime, func() { all.remove(key, f) })
	}
	return f.answer, f.began, f.err
}

// remove ends the sharing of a request.
func (all *flights) remove(key string, f *flight) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.current[key] == f {
		delete(all.current, key)
	}
}

func (b *Backend) fetchAlone(q *question) (*answer, error) {
	b.Stats.Followed.Add(1)
	a, _, err := b.try(context.Background(), b.current.Load(), q)
	if err == nil && (a.status < 200 || a.status > 299) {
		err = fmt.Errorf("status %d to a request of a held response; answer with 200", a.status)
	}
	if err != nil {
		b.failed(err)
		return nil, err
	}
	return a, nil
}

// tellGone sends the request of a gone link, once.
func (b *Backend) tellGone(q *question) {
	q.class, q.http.shared = classEnd, false
	b.running.begin()
	go func() {
		defer b.running.end()
		if _, err := b.fetchAlone(q); err != nil {
			b.log().Warn("backend not told of the end of a held response", "error", err)
		}
	}()
}

func (b *Backend) log() *slog.Logger { return b.current.Load().Log }

// orderGrace is the time for which a held client waits for an item that others have overtaken, before the site is asked
// for it. It differs between clients, so that they do not ask all at once.
func (t *times) orderGrace() time.Duration { return jitter(t.maxGrace, t.maxGrace/2) }

// SignRequest sets the headers with which a site recognizes that a client's request comes through the relay, and that
// the relay can hold its response. It removes the client's Accept-Encoding: items are appended to the response as they
// are.
func (b *Backend) SignRequest(h http.Header) {
	h.Del("Accept-Encoding")
	h["Grip-Feature"] = []string{lastFeatures}
	if signature := b.current.Load().signature(time.Now()); signature != "" {
		h["Grip-Sig"] = []string{signature}
	}
}
