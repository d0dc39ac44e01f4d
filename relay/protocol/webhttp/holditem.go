package webhttp

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/edgerelay/edgerelay/relay"
)

// Receive implements [relay.FrameReceiver]: it handles an item.
func (h *Hold) Receive(payload []byte, limit int) bool {
	it := h.backend.holds.item(payload)
	if it == nil {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.phase == over:
		return false
	case len(h.queue) >= maxHeldItems:
		return true
	}
	h.queue = append(h.queue, it)
	if h.phase == holding || h.phase == waiting && h.mode != noHold {
		h.drain(limit)
	}
	if len(h.queue) > 0 {
		h.since = it.arrived
	}
	return h.phase != over
}

// drain handles the queued items that can be handled, and decides what becomes of the others. h.mu is held.
func (h *Hold) drain(limit int) {
	for progress := true; progress && h.phase != over && h.phase != asking; {
		progress = false
		for i := 0; i < len(h.queue); i++ {
			if it := h.queue[i]; h.isNext(it) {
				h.queue = slices.Delete(h.queue, i, i+1)
				h.handle(it, limit)
				progress = true
				break // the item may make an earlier one the next
			}
		}
	}
	switch {
	case h.phase == over || h.phase == asking:
	case len(h.queue) == 0:
		h.queue = nil
		if h.phase == waiting && h.retries == 0 { // what was missing has arrived
			h.phase = holding
			h.timers.set(dueAsk, 0)
		}
	case h.phase == holding: // items may overtake each other: give the missing one a moment
		h.phase = waiting
		h.timers.after(h, dueAsk, h.backend.times.orderGrace())
	}
}

// isNext reports whether an item can be handled now: it follows the last one of its channel, is a repetition, or
// belongs to a channel without an order. h.mu is held.
func (h *Hold) isNext(it *httpItem) bool {
	c := h.channel(it.group)
	return c == nil || !c.ordered || it.prevID == c.prevID || it.id == c.prevID
}

// handle handles an item. h.mu is held.
func (h *Hold) handle(it *httpItem, limit int) {
	c := h.channel(it.group)
	if c == nil || c.ordered && it.prevID != c.prevID { // unsubscribed in the meantime, or a repetition
		return
	}
	if h.waits() {
		if it.response != nil {
			h.handleResponse(c, it)
		}
		return
	}
	if it.stream == nil {
		return
	}
	if it.stream.filtered && !slices.Equal(contentFilters(c.filters), it.stream.filters) {
		return
	}
	if c.ordered {
		c.prevID = it.id
	}
	content, send := h.filter(c, it, it.stream.content)
	switch {
	case !send:
	case it.stream.action == actionClose:
		h.end()
	case it.stream.action == actionHint:
		h.since = it.arrived
		h.startAsking()
	default:
		if h.out.Append(content, limit) {
			h.wrote(c)
			return
		}
		h.finish()
	}
}

// filter returns what the client gets of an item's content. h.mu is held.
func (h *Hold) filter(c *heldChannel, it *httpItem, content []byte) ([]byte, bool) {
	if len(c.filters) == 0 {
		return content, true
	}
	s := subscriber{
		value: func(name string) (string, bool) { return metaValue(h.meta, name) },
		subscribed: func(channel string) bool {
			return slices.ContainsFunc(h.channels, func(c heldChannel) bool { return c.name == channel })
		},
		lastID: func(channel string) (string, bool) {
			for i := range h.channels {
				if c := &h.channels[i]; c.name == channel && c.ordered {
					return c.prevID, true
				}
			}
			return "", false
		},
	}
	return s.filter(c.filters, it.meta, content)
}

// wrote records that the client got an item of a channel. h.mu is held.
func (h *Hold) wrote(c *heldChannel) {
	c.active = true
	if !h.regular {
		h.timers.postpone(dueKeepAlive, h.keepFor)
	}
	if h.nextFor == 0 || slices.ContainsFunc(h.channels, func(c heldChannel) bool { return !c.active }) {
		return
	}
	h.restartNext()
}

// handleResponse answers a client that waits. h.mu is held.
func (h *Hold) handleResponse(c *heldChannel, it *httpItem) {
	f := it.response
	if f.filtered && !slices.Equal(contentFilters(c.filters), f.filters) {
		return
	}
	if c.ordered {
		c.prevID = it.id
	}
	body := f.body
	if f.patch != nil {
		patched, err := f.patch.apply(h.response.body)
		if err != nil {
			h.failHold(fmt.Errorf("body-patch: %w", err))
			return
		}
		body = patched
	}
	body, send := h.filter(c, it, body)
	switch {
	case !send:
	case f.action == actionHint:
		h.since = it.arrived
		h.startAsking()
	default:
		header := h.response.header.Clone()
		for _, p := range f.header {
			header.Del(p.name)
		}
		for _, p := range f.header {
			header.Add(p.name, p.value)
		}
		h.respond(f.status, header, body)
	}
}

// respondOwn sends the site's own response, as after the timeout. h.mu is held.
func (h *Hold) respondOwn() {
	body, err := h.response.content()
	if err != nil {
		h.failHold(err)
		return
	}
	h.respond(h.response.status, h.response.header, body)
}

// respond ends a client's wait. h.mu is held.
func (h *Hold) respond(status int, header http.Header, body []byte) {
	h.finish()
	h.answers <- &HeldAnswer{Status: status, Header: header, Body: body} // has room: it is the only one
}

// content returns the body of the site's response. Of the filters of its channels, build-id applies to it.
func (in *instruct) content() ([]byte, error) {
	filters := []string{filterBuildID}
	if len(in.body) == 0 || !slices.ContainsFunc(in.channels, func(c channelHold) bool {
		return slices.Contains(c.filters, filterBuildID)
	}) {
		return in.body, nil
	}
	s := subscriber{whole: true, value: func(name string) (string, bool) { return metaValue(in.meta, name) }}
	body, ok := s.filter(filters, nil, in.body)
	if !ok {
		return nil, errContentFilter
	}
	return body, nil
}

var _ relay.FrameReceiver = (*Hold)(nil)
