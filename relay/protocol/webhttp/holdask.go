package webhttp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// lastFeatures are what the relay can do for held responses, beside [features].
const lastFeatures = "status, link:next, link:gone, " + features + ", filter:" + filterBuildID

// emptyPause is the pause before a stream asks again whose last answers had neither content nor a hold.
const emptyPause = time.Second

var errContentFilter = errors.New("the filter build-id cannot be applied to the response; set the meta id_format, and " +
	"write %% for %")

// startAsking asks the site by the next link of a stream, or again for the response of a client that waits. h.mu is
// held.
func (h *Hold) startAsking() {
	switch {
	case h.phase == asking:
		h.overdue = true
	case h.canAsk():
		h.startAgain()
	case h.waits(): // the client will ask again itself
		h.respondOwn()
	default: // there is no other way to go on than with the next item
		h.queue, h.phase = nil, holding
	}
}

// canAsk reports whether there is a request that leads on. h.mu is held.
func (h *Hold) canAsk() bool {
	if h.waits() {
		return h.original != nil
	}
	return h.next != ""
}

// startAgain makes a request due. h.mu is held.
func (h *Hold) startAgain() {
	h.phase, h.asks, h.overdue = asking, len(h.queue), false
	h.timers.set(dueAsk, 0)
	if !h.running {
		h.running = true
		go h.ask()
	}
}

// question returns the request that is due. h.mu is held.
func (h *Hold) question() *question {
	q := h.follow(http.MethodGet, h.next)
	q.http.since = h.since
	if h.waits() {
		o := h.original
		q = &question{
			class: classMessage, key: h.original.key(h), body: o.body, handshake: o.handshake,
			http: &httpQuestion{method: o.method, contentType: o.contentType},
		}
	}
	for i := range h.channels {
		if c := &h.channels[i]; c.ordered {
			q.http.last = append(q.http.last, c.name+"; last-id="+quoteParam(c.prevID))
		}
	}
	slices.Sort(q.http.last)
	return q
}

// key is the client's key in the fair queue.
func (o *original) key(h *Hold) string { return h.session.Sender() }

// quoteParam returns the value of a parameter, in quotes if it needs any.
func quoteParam(value string) string {
	if !strings.ContainsAny(value, `",;\ `) {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}

// follow returns the request of a link, which has no header of the client: clients share the answers.
func (h *Hold) follow(method, uri string) *question {
	q := &question{class: classMessage, key: uri, handshake: h.request, http: &httpQuestion{method: method, shared: true}}
	q.uri = uri
	return q
}

// resolve returns path and query of a link, relative to the page that has it.
func (h *Hold) resolve(link string) (string, error) {
	if link == "" {
		return "", nil
	}
	base, err := url.Parse(h.request.uri)
	if err != nil {
		return "", err
	}
	to, err := base.Parse(link)
	if err != nil {
		return "", fmt.Errorf("Grip-Link: invalid link %.64q", link)
	}
	if host := h.request.host.Value(); to.Host != "" && !strings.EqualFold(to.Host, host) {
		return "", fmt.Errorf("Grip-Link: the link leads to %.64q; use a path of %.64q", to.Host, host)
	}
	return to.RequestURI(), nil
}

// ask sends requests while any is due.
func (h *Hold) ask() {
	for {
		h.mu.Lock()
		if h.phase != asking {
			h.running = false
			h.mu.Unlock()
			return
		}
		q := h.question()
		h.mu.Unlock()
		a, asked, err := h.backend.fetch(q)
		if err == nil {
			err = h.apply(q, a, asked)
		}
		if err != nil {
			h.askFailed(err)
		}
	}
}

// apply handles the answer to a request.
func (h *Hold) apply(q *question, a *answer, asked time.Time) error {
	in, err := parseInstruct(a.status, a.header, a.body)
	if err != nil {
		return fatalError{err}
	}
	body, err := in.content()
	if err != nil {
		return fatalError{err}
	}
	h.mu.Lock()
	switch {
	case h.phase == over:
		h.mu.Unlock()
		return nil
	case !h.waits() && in.mode == holdResponse:
		h.mu.Unlock()
		return fatalError{errors.New("the next link wants to hold a response; hold a stream")}
	case h.waits() && in.mode == noHold && in.next == "":
		h.respond(in.status, in.header, body)
		h.mu.Unlock()
		return nil
	}
	begins := h.waits() && in.mode != holdResponse
	if !h.waits() {
		h.request.uri = q.uri
	}
	if err := h.adopt(in); err != nil {
		h.mu.Unlock()
		return fatalError{err}
	}
	h.asked, h.retries = asked, 0
	joined := h.dirty
	h.mu.Unlock()
	if joined {
		ctx, cancel := context.WithTimeout(context.Background(), joinTimeout)
		defer cancel()
		h.subscribe(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.phase == over:
		return nil
	case begins:
		h.original, h.phase, h.response = nil, starting, in
		h.answers <- &HeldAnswer{Stream: true}
		return nil
	case !h.waits() && len(body) > 0 && !h.out.Append(body, 0):
		h.finish()
		return nil
	}
	h.resume(len(body), joined)
	return nil
}

// resume goes on after an instruction. h.mu is held.
func (h *Hold) resume(content int, joined bool) {
	before := h.queue
	h.phase = holding
	if h.mode == noHold {
		h.goOn(content)
		return
	}
	h.empty = 0
	if h.waits() {
		h.timers.after(h, dueNext, max(h.response.timeout, h.backend.times.minHold))
	} else {
		if h.timers.at[dueKeepAlive] == 0 || content > 0 && !h.regular {
			h.restartKeepAlive()
		}
		h.restartNext()
	}
	h.dropStale(before)
	ids := h.lastIDs()
	h.drain(h.session.Limits().QueuePerConnection)
	if h.phase == over || h.phase == asking {
		return
	}
	if h.canAsk() && (h.overdue || joined && h.missed(ids)) {
		h.since = time.Now()
		h.startAgain()
	}
}

// goOn follows the next link of an answer that does not hold. h.mu is held.
func (h *Hold) goOn(content int) {
	if h.next == "" {
		h.end()
		return
	}
	if h.empty++; content > 0 {
		h.empty = 0
	}
	if h.empty > 1 { // a site that neither answers nor holds would be asked without a pause
		h.empty = 1
		h.phase = waiting
		h.timers.after(h, dueAsk, emptyPause)
		return
	}
	h.startAgain()
}

// dropStale removes the items that were queued before the site was asked and do not follow its answer: the answer has
// them already. So it has those before an item with the id of the answer. h.mu is held.
func (h *Hold) dropStale(queue []*httpItem) {
	kept := queue[:0:0]
	for i, it := range queue {
		c := h.channel(it.group)
		switch {
		case c == nil:
			continue
		case !c.ordered || it.prevID == c.prevID:
		case i < h.asks || slices.ContainsFunc(queue[i:], func(o *httpItem) bool {
			return o.group == it.group && o.id == c.prevID
		}):
			continue
		}
		kept = append(kept, it)
	}
	h.queue, h.asks = kept, 0
}

// lastIDs returns the ids of the last items that the client has. h.mu is held.
func (h *Hold) lastIDs() (ids []string) {
	for i := range h.channels {
		ids = append(ids, h.channels[i].prevID)
	}
	return ids
}

// missed reports whether an item may have been published between the site's answer and the subscription, unless items
// have followed the ids of the answer since. h.mu is held.
func (h *Hold) missed(ids []string) bool {
	for i := range h.channels {
		c := &h.channels[i]
		if !c.ordered || c.prevID != ids[i] {
			continue
		}
		last, known := h.backend.holds.lastSince(c.group, h.asked)
		if !known || last != "" && last != c.prevID {
			return true
		}
	}
	return false
}

// fatalError is a failure that a repetition would not change.
type fatalError struct{ error }

func (e fatalError) Unwrap() error { return e.error }

// askFailed repeats a request after a pause, or gives the client up.
func (h *Hold) askFailed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase == over {
		return
	}
	if _, fatal := errors.AsType[fatalError](err); fatal || h.retries == maxRetries {
		h.failHold(err)
		return
	}
	t := h.backend.times
	h.phase = waiting
	h.timers.after(h, dueAsk, t.firstRetry<<h.retries+rand.N(t.retryRange))
	h.retries++
}

// failHold ends a client's response after a failure. h.mu is held.
func (h *Hold) failHold(err error) {
	h.failed = true
	h.backend.failed(err)
	h.backend.log().Warn("held response failed, client disconnected", "error", err,
		"path", strings.SplitN(h.request.uri, "?", 2)[0])
	if h.waits() {
		r := reject(http.StatusBadGateway, err)
		h.respond(r.Status, r.Header, r.Body)
		return
	}
	h.end()
}

// subscribe makes the channels the session's subscriptions.
func (h *Hold) subscribe(ctx context.Context) {
	h.mu.Lock()
	h.dirty = false
	groups := make([]string, len(h.channels))
	for i := range h.channels {
		groups[i] = h.channels[i].group
	}
	h.mu.Unlock()
	s := h.backend.current.Load()
	subs := make([]relay.Subscription, 0, len(groups))
	for _, group := range groups {
		sub := relay.Subscription{Group: group}
		if s.Grant != nil {
			granted, err := s.Grant(ctx, h.session.Identity(), group)
			if err != nil {
				s.Log.Warn("backend subscription denied", "group", group, "error", err)
				continue
			}
			sub = granted
		}
		sub.Granted = true
		subs = append(subs, sub)
	}
	_, err := h.session.Subscribe(ctx, subs)
	switch tooMany := (relay.TooManyGroupsError{}); {
	case errors.As(err, &tooMany):
		h.mu.Lock()
		defer h.mu.Unlock()
		h.failHold(fmt.Errorf("%w; hold fewer channels, or raise groups_per_connection", tooMany))
	case err == nil:
		now := time.Now()
		for _, group := range groups {
			h.backend.holds.confirm(group, now)
		}
	case errors.Is(err, relay.ErrClosed):
	default: // the client has the subscriptions, which take effect once the layer is reachable
		s.Log.Warn("subscription delayed by the channel layer", "error", err)
	}
}
