package webhttp

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/edgerelay/edgerelay/relay"
)

// Stream is the connection of a client whose stream is held. Methods may be called concurrently, and never block.
type Stream interface {
	// Append appends bytes to the body of the response. They are shared and must not be changed. Beyond limit queued
	// bytes, unless it is 0, the client is disconnected as a slow consumer, and Append returns false.
	Append(b []byte, limit int) bool
	// End ends the body after the queued bytes, and Kill at once.
	End()
	Kill()
	// Waiting is that of [relay.Socket].
	Waiting() (bytes int, slow bool)
}

// holdPhase is the phase of a held response.
type holdPhase uint8

const (
	// starting: the response has not begun; items are queued.
	starting holdPhase = iota
	// holding: items reach the client.
	holding
	// waiting: an item is missing, or a request has failed; items are queued until the next request.
	waiting
	// asking: a request to the site is in progress; items are queued.
	asking
	// over: the response has ended.
	over
)

// maxHeldItems is the number of items that wait for a request of a held response; further ones are dropped. Those of
// ordered channels are missed then, and the site is asked for them.
const maxHeldItems = 100

// heldChannel is a channel of a held response.
type heldChannel struct {
	name, group string
	filters     []string
	// prevID is the id of the last item that the client has; ordered is set if the site counts.
	prevID          string
	ordered, active bool // active: has had an item since the last request
}

// Hold is a client whose response the relay holds for a site (GRIP). It is the client's socket for the engine, and the
// handler of its connection. Methods may be called concurrently.
//
// A Hold without a request in progress has no goroutine.
// See docs/decisions/webhttp.md#why-does-the-relay-itself-send-the-requests-of-held-responses
type Hold struct {
	backend *Backend
	session relay.Session
	// request is the client's request without its headers, original the request itself for a response that can be asked
	// for again.
	request  handshake
	original *original
	asked    time.Time // when the site was asked for the current instruction

	mu       sync.Mutex // guards the fields below
	out      Stream     // nil while no stream has begun
	phase    holdPhase
	mode     holdMode
	running  bool // a goroutine sends requests
	failed   bool // the site is at fault for the end
	dirty    bool // the session's groups are not those of channels
	regular  bool // the keep-alive is sent in any case
	retries  uint8
	empty    uint8     // answers in a row that neither had content nor held
	overdue  bool      // another request is due after the one in progress
	asks     int       // queued items that are older than the request
	since    time.Time // from which an answer must be: that of the last reason to ask
	channels []heldChannel
	meta     []pair
	queue    []*httpItem
	keep     string // the keep-alive
	keepFor  time.Duration
	next     string // path and query
	nextFor  time.Duration
	gone     string
	response *instruct // the site's response, until it is sent
	timers   holdTimers
	answers  chan *HeldAnswer // for a client that waits; nil without one
}

// original is the client's request.
type original struct {
	handshake
	method, contentType string
	body                []byte
}

// Send implements [relay.Socket]. A held client has no use for frames.
func (h *Hold) Send([]byte, int) bool { return true }

// SendCopy implements [relay.Socket].
func (h *Hold) SendCopy([]byte, int) bool { return true }

// Ping implements [relay.Socket]. Keep-alives are the site's affair.
func (h *Hold) Ping() bool { return false }

// Waiting implements [relay.Socket].
func (h *Hold) Waiting() (bytes int, slow bool) {
	if out := h.output(); out != nil {
		return out.Waiting()
	}
	return 0, false
}

// LastRead implements [relay.Socket]. A held client never sends anything; the transport notices its end.
func (h *Hold) LastRead() time.Time { return time.Now() }

func (h *Hold) output() Stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out
}

// Close implements [relay.Socket]: a stream ends, and a client that waits gets the site's response at once, as after
// the timeout. Both will ask again.
func (h *Hold) Close(int, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waits() && h.phase != over {
		h.respondOwn()
		return
	}
	h.end()
}

// waits reports whether the client waits for its response. h.mu is held.
func (h *Hold) waits() bool { return h.mode == holdResponse }

// Kill implements [relay.Socket].
func (h *Hold) Kill() {
	h.mu.Lock()
	out := h.out
	if h.waits() && h.phase != over {
		h.respond(http.StatusServiceUnavailable, nil, nil)
	}
	h.finish()
	h.mu.Unlock()
	if out != nil {
		out.Kill()
	}
}

// end ends the response after what the client was sent. h.mu is held.
func (h *Hold) end() {
	if h.phase == over {
		return
	}
	h.finish()
	if h.out != nil {
		h.out.End()
	}
}

// finish leaves the client without further bytes. h.mu is held.
func (h *Hold) finish() {
	h.phase, h.queue, h.response = over, nil, nil
	h.timers.stop()
}

// Ended ends the session after the end of the client's connection.
func (h *Hold) Ended() {
	// Before the end of the session, for which a stop of the node waits: Backend.Close then waits for the gone link.
	h.backend.running.begin()
	defer h.backend.running.end()
	h.session.Close()
	h.backend.Stats.Held.Add(-1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finish()
	for i := range h.channels {
		h.backend.holds.leave(h.channels[i].group)
	}
	h.channels = nil
	if h.gone != "" {
		h.backend.tellGone(h.follow(http.MethodPost, h.gone))
	}
}

// adopt makes an instruction the current one. h.mu is held.
func (h *Hold) adopt(in *instruct) error {
	next, err := h.resolve(in.next)
	if err != nil {
		return err
	}
	channels := make([]heldChannel, 0, len(in.channels))
	for i := range in.channels {
		channels = append(channels, newHeldChannel(&in.channels[i]))
		if group := channels[i].group; h.channel(group) == nil {
			h.dirty = true
		}
	}
	h.dirty = h.dirty || len(channels) != len(h.channels)
	for i := range channels {
		h.backend.holds.enter(channels[i].group)
	}
	for i := range h.channels {
		h.backend.holds.leave(h.channels[i].group)
	}
	h.mode, h.channels, h.meta, h.next, h.nextFor = in.mode, channels, slices.Clone(in.meta), next, in.nextEvery
	h.keep, h.keepFor, h.regular = unique.Make(string(in.keepAlive)).Value(), 0, in.keepRegular
	if h.keep != "" {
		h.keepFor = max(in.keepEvery, h.backend.times.minStreamKeepAlive)
	}
	h.response = nil
	if h.waits() {
		h.response = in
		if h.answers == nil {
			h.answers = make(chan *HeldAnswer, 1)
		}
	}
	return nil
}

// newHeldChannel returns a channel in a form that clients share as far as possible.
func newHeldChannel(c *channelHold) heldChannel {
	group := unique.Make(Group(c.name)).Value()
	name, ok := strings.CutPrefix(group, groupPrefix)
	if !ok {
		name = unique.Make(c.name).Value()
	}
	filters := make([]string, len(c.filters))
	for i, f := range c.filters {
		filters[i] = unique.Make(f).Value()
	}
	return heldChannel{
		name: name, group: group, filters: filters, prevID: strings.Clone(c.prevID), ordered: c.ordered,
	}
}

// channel returns the channel of a group, nil if there is none. h.mu is held.
func (h *Hold) channel(group string) *heldChannel {
	for i := range h.channels {
		if h.channels[i].group == group {
			return &h.channels[i]
		}
	}
	return nil
}
