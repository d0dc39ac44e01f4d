//go:build !wasm

package edgerelay

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// effects are those of a call; they happen if it succeeds.
type effects struct {
	list     []func()
	sent     int
	grouped  int
	requests []serviceRequest
}

// effectful calls a hook. Its effects happen if it returns nil.
func (h *Host) effectful(hook string, c *TestClient, document []byte, f func() error) error {
	if c != nil {
		c.pending.attachment = c.Attachment
	}
	var failure error
	h.client = c
	err := h.call(hook, "", document, func() { failure = f() })
	h.client = nil
	if err == nil && failure != ErrNoClient { // that a client has left is no failure
		err = failure
	}
	if err != nil {
		return err
	}
	if c != nil {
		c.Attachment = c.pending.attachment
	}
	h.commit()
	return nil
}

// commit makes the effects of the last call happen, which has succeeded.
func (h *Host) commit() {
	done := h.effects
	h.effects = effects{}
	for _, happen := range done.list {
		happen()
	}
	h.queue = append(h.queue, done.requests...)
}

// later keeps an effect until the hook has succeeded.
func (h *Host) later(f func()) { h.effects.list = append(h.effects.list, f) }

// replaying reports whether the event is of the history: it neither publishes nor makes requests.
func (h *Host) replaying() bool { return h.hook == hookEvent && h.Source == "history" }

func (h *Host) present() bool { return h.client != nil && !h.client.left }

func (h *Host) attach(text string) int32 {
	switch {
	case !h.present():
		return codeNoClient
	case len(text) > maxAttachment:
		return int32(ErrTooLarge)
	}
	h.client.pending.attachment = text
	return 0
}

func (h *Host) send(f Frame) int32 {
	c := h.client
	switch {
	case !h.present():
		return codeNoClient
	case h.effects.sent >= maxEffects:
		return int32(ErrLimit)
	case len(f.Text) > h.limit:
		return int32(ErrTooLarge)
	case !f.Binary && !utf8.ValidString(f.Text):
		return int32(ErrMalformed)
	}
	h.effects.sent++
	h.later(func() { c.Frames = append(c.Frames, f) })
	return 0
}

// allowed checks a group against patterns, of which nil allows all.
func allowed(patterns []string, group string) int32 {
	if !groupName.MatchString(group) {
		return int32(ErrMalformed)
	}
	if patterns != nil && !slices.ContainsFunc(patterns, func(p string) bool { return matches(p, group) }) {
		return int32(ErrNotGranted)
	}
	return 0
}

// matches reports whether a name matches a pattern, in which "*" stands for any run of characters.
func matches(pattern, name string) bool {
	head, tail, starred := strings.Cut(pattern, "*")
	if !starred {
		return name == pattern
	}
	if !strings.HasPrefix(name, head) {
		return false
	}
	for i := len(head); i <= len(name); i++ {
		if matches(tail, name[i:]) {
			return true
		}
	}
	return false
}

func (h *Host) subscribe(group string, join bool) int32 {
	if !h.present() {
		return codeNoClient
	}
	if code := allowed(h.Joins, group); code != 0 {
		h.noGroup = h.noGroup || join
		return code
	}
	if h.effects.grouped++; h.effects.grouped > maxEffects {
		return int32(ErrLimit)
	}
	c := h.client
	h.later(func() {
		at := slices.Index(c.Groups, group)
		switch {
		case join && at < 0 && !c.left:
			c.Groups = append(c.Groups, group)
		case !join && at >= 0:
			c.Groups = slices.Delete(c.Groups, at, at+1)
		}
	})
	return 0
}

func (h *Host) publish(p Publication) int32 {
	code := allowed(h.Publishes, p.Group)
	switch {
	case code != 0:
		return code
	case h.hook == hookInit || h.hook == hookClass || h.replaying():
		return codeNoClient
	case len(p.Payload) > h.limit:
		return int32(ErrTooLarge)
	case !utf8.ValidString(p.Payload), p.Type != "" && (!json.Valid([]byte(p.Payload)) || p.Payload[0] != '{'):
		return int32(ErrMalformed)
	}
	from := h.client
	h.later(func() {
		h.Published = append(h.Published, p)
		for _, c := range h.clients {
			if p.Type == "" && slices.Contains(c.Groups, p.Group) && !(p.Others && c == from) {
				c.Frames = append(c.Frames, Frame{Text: p.Payload})
			}
		}
	})
	return 0
}

// Publish sends a text to the clients of a group, as another process may.
func (h *Host) Publish(group, text string) {
	for _, c := range h.clients {
		if slices.Contains(c.Groups, group) {
			c.Frames = append(c.Frames, Frame{Text: text})
		}
	}
}

func (h *Host) closeClient(code int, reason string) int32 {
	if !h.present() {
		return codeNoClient
	}
	valid := slices.Contains([]int{1000, 1008, 1011, 1013}, code) || code >= 3000 && code <= 4999
	if !valid || len(reason) > maxReasonSize || !utf8.ValidString(reason) {
		return int32(ErrMalformed)
	}
	c := h.client
	h.later(func() {
		if c.Closed == nil {
			h.ending = append(h.ending, func() { _ = c.end(code, reason) })
			c.Closed = &Closing{code, reason}
		}
	})
	return 0
}

func (h *Host) autoRespond(request, response string) int32 {
	switch {
	case h.hook != hookInit:
		return int32(ErrMalformed)
	case len(h.auto) >= maxAuto:
		return int32(ErrLimit)
	case len(request) > maxAutoSize || len(response) > maxAutoSize:
		return int32(ErrTooLarge)
	}
	if h.auto == nil {
		h.auto = map[string]string{}
	}
	h.auto[request] = response
	return 0
}
