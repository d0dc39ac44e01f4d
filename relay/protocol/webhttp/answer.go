package webhttp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
)

var (
	errBlocked  = errors.New("the backend did not take the client's messages in time")
	errAccepted = errors.New("Content-Bytes-Accepted is not a number, or more than the request had")
	errStuck    = errors.New("the backend took no part of a full request")
	errUTF8     = errors.New("a TEXT event is not UTF-8; send BINARY")
	errReopened = errors.New("OPEN in the answer to a later request")
)

// joinTimeout is how long the events behind a subscription wait for the channel layer.
const joinTimeout = 5 * time.Second

// maxFrames is the number of bytes of frames that are joined into a write.
const maxFrames = 64 << 10

// apply handles the answer to a batch. A failure ends the connection.
func (c *Conn) apply(b *batch, a *answer) *failure {
	switch {
	case a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable:
		return &failure{code: relay.CloseTryLater, reason: "backend is busy", err: statusError(a)}
	case a.status != http.StatusOK || !IsEvents(a.header.Get("Content-Type")):
		return invalid(statusError(a))
	}
	events, err := parseEvents(a.body)
	if err != nil {
		return invalid(err)
	}
	if f := c.take(b, a.header); f != nil {
		return f
	}
	if c.meta, err = updateMeta(c.meta, a.header); err != nil {
		return invalid(err)
	}
	c.setKeepAlive(a.header)
	if !b.close && !b.disconnect {
		c.applyEvents(events, output{limit: c.session.Limits().QueuePerConnection})
		return nil
	}
	// The client is gone, closes, or is not the backend's any more: the events have no meaning.
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.disconnect || len(c.queue) == 0 {
		c.turn(endIsTold)
	}
	return nil
}

func statusError(a *answer) error {
	return fmt.Errorf("status %d with Content-Type %.60q; answer 200 with %s", a.status, a.header.Get("Content-Type"),
		ContentType)
}

// output collects the effects of an answer's events for the client.
type output struct {
	frames []byte
	// resubscribe is set if the groups have changed.
	resubscribe bool
	// limit is the client's limit of queued bytes, 0 for none.
	limit int
	// joining bounds all waits for the channel layer; nil: each takes up to joinTimeout.
	joining context.Context
}

// applyEvents hands the events of an answer to the client, in order.
func (c *Conn) applyEvents(events []event, out output) {
	for _, e := range events {
		c.mu.Lock()
		p := c.phase
		c.mu.Unlock()
		if p == ended || p == closed { // the events behind have no meaning
			break
		}
		if f := c.applyEvent(e, &out); f != nil {
			c.flush(&out)
			c.fail(f)
			return
		}
	}
	c.flush(&out)
}

// applyEvent handles an event of the backend.
func (c *Conn) applyEvent(e event, out *output) *failure {
	switch e.kind {
	case eventOpen:
		return invalid(errReopened)
	case eventText, eventBinary:
		return c.applyMessage(e, out)
	case eventPing, eventPong:
		if len(e.content) <= maxControl {
			k := kindPing
			if e.kind == eventPong {
				k = kindPong
			}
			c.queueFrame(out, k, e.content)
		}
	case eventClose:
		c.flush(out)
		code, reason := closeOf(e.content)
		c.turnTo(backendCloses)
		c.Socket.Close(code, reason)
	case eventDisconnect:
		c.flush(out)
		c.turnTo(backendDisconnects)
		c.Socket.Kill()
	}
	return nil
}

func (c *Conn) turnTo(in input) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(in)
}

// closeOf returns the code and reason for the client's close frame. django-grip sends the code 0 if the view names
// none.
func closeOf(content []byte) (code int, reason string) {
	if len(content) < 2 {
		return relay.CloseNormal, ""
	}
	if code = int(binary.BigEndian.Uint16(content)); !validCode(code) {
		code = relay.CloseNormal
	}
	return code, cutReason(string(content[2:]))
}

// applyMessage handles TEXT and BINARY. With the extension grip, a message needs the prefix, and text behind "c:" is a
// control message.
func (c *Conn) applyMessage(e event, out *output) *failure {
	content := e.content
	if c.grip {
		if control, ok := bytes.CutPrefix(content, []byte("c:")); ok && e.kind == eventText {
			return c.applyControl(control, out)
		}
		var ok bool
		if content, ok = bytes.CutPrefix(content, []byte(c.prefix)); !ok {
			return nil
		}
	}
	if e.kind == eventBinary {
		c.queueFrame(out, kindBinary, content)
		return nil
	}
	if !utf8.Valid(content) {
		return invalid(errUTF8)
	}
	c.queueFrame(out, kindText, content)
	return nil
}

// queueFrame adds a frame to the output, behind the subscriptions that the backend wants before.
func (c *Conn) queueFrame(out *output, k kind, payload []byte) {
	if out.resubscribe || len(out.frames) > maxFrames {
		c.flush(out)
	}
	out.frames = appendFrame(out.frames, k, payload)
}

// flush sends the frames and applies the subscriptions.
func (c *Conn) flush(out *output) {
	if len(out.frames) > 0 {
		c.Send(out.frames, out.limit)
		out.frames = nil
		c.restartIdle()
	}
	if !out.resubscribe {
		return
	}
	out.resubscribe = false
	ctx := out.joining
	if ctx == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.Background(), joinTimeout)
		defer cancel()
	}
	if f := c.subscribe(ctx); f != nil {
		c.fail(f)
	}
}

func tooManyChannels(err relay.TooManyGroupsError) *failure {
	return &failure{code: closeInternal, reason: "too many channels", err: err}
}

// subscribe makes the groups of the connection the session's subscriptions. ctx bounds the wait for the channel layer
// only: a grant that fails would end a subscription for good.
func (c *Conn) subscribe(ctx context.Context) *failure {
	s := c.backend.current.Load()
	granting, cancel := context.WithTimeout(context.WithoutCancel(ctx), joinTimeout)
	defer cancel()
	groups := c.currentGroups()
	subs := make([]relay.Subscription, 0, len(groups))
	for _, g := range groups {
		sub := relay.Subscription{Group: g.name}
		if s.Grant != nil {
			granted, err := s.Grant(granting, c.session.Identity(), g.name)
			if err != nil {
				s.Log.Warn("backend subscription denied", "group", g.name, "error", err)
				continue
			}
			sub = granted
		}
		sub.Granted = true
		subs = append(subs, sub)
	}
	_, err := c.session.Subscribe(ctx, subs)
	tooMany := relay.TooManyGroupsError{}
	switch {
	case errors.As(err, &tooMany):
		return tooManyChannels(tooMany)
	case errors.Is(err, relay.ErrClosed), err == nil:
	case errors.Is(ctx.Err(), context.Canceled): // the client has left during the handshake
	default: // the client has the subscriptions, which take effect once the layer is reachable
		s.Log.Warn("subscription delayed by the channel layer", "error", err)
	}
	return nil
}

// setKeepAlive reads the interval of keep-alive requests from an answer. An answer without a valid one leaves it.
func (c *Conn) setKeepAlive(h http.Header) {
	text := h.Get("Keep-Alive-Interval")
	if text == "" {
		return
	}
	seconds, err := strconv.Atoi(strings.TrimSpace(text))
	interval := time.Duration(0)
	if err == nil && seconds > 0 {
		interval = max(time.Duration(min(seconds, 86_400))*time.Second, c.backend.times.minKeepAlive)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if interval > 0 || c.extra != nil {
		c.extras().interval = interval
	}
}
