// Package awx implements AWX's client protocol, which the JavaScript of AWX's pages uses on /websocket/.
//
// A page sends {"groups": {…}, "xrftoken": "…"} to set its subscriptions (message.go). The relay answers with the
// changes or with errors (texts.go). A [Client] does this for one connection.
//
// A client may opt in to positions (events.go) and then say in "since" what it has of each group (since.go).
package awx

import (
	"context"
	"crypto/subtle"
	"errors"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// joinTimeout is how long the response to a subscription waits for the channel layer.
const joinTimeout = 5 * time.Second

// BroadcastGroup carries a copy of every event between AWX's nodes (BROADCAST_WEBSOCKET_GROUP_NAME in AWX's settings).
// Clients may not subscribe.
// See docs/decisions/protocol-and-authz.md#why-is-broadcast-group_send-closed-to-clients
const BroadcastGroup = "broadcast-group_send"

// Client handles the messages of one authenticated client. It is the Handler of relay/transport/ws.
type Client struct {
	*Shared
	Session relay.Session
	// CSRFToken is the csrftoken cookie of the handshake. If it is empty, every message is rejected.
	CSRFToken string
	// Positions is set if the client has opted in with [EventsSubprotocol]. Otherwise "since" has no meaning, as in AWX.
	Positions bool
	// Trace, if not nil, is called before the groups of a message are authorized. It returns the context to authorize
	// with, and a function to call with the results.
	Trace func(ctx context.Context, groups int) (traced context.Context, end func(denied, failed int))

	budget messageBudget
}

// Ended closes the session after the connection has ended.
func (c *Client) Ended() { c.Session.Close() }

// Message handles a client's message and sends the response. Calls must not overlap.
func (c *Client) Message(text bool, message []byte) {
	if !c.withinRate(time.Now()) {
		return
	}
	if err := c.handle(text, message); err != nil {
		c.Stats.Rejected.Add(1)
		c.Session.Send(errorText(err.Error()))
		return
	}
	c.Stats.Accepted.Add(1)
}

// Errors that clients see in an error frame.
var (
	errNotText = errors.New("a message must be a text frame")
	// errAccessDenied has AWX's own text, for a wrong or missing token and for groups whose value is not a list.
	errAccessDenied = errors.New("access denied to channel")
)

// handle answers one message. It returns an error for the client if the message is rejected.
func (c *Client) handle(text bool, raw []byte) error {
	if !text {
		return errNotText
	}
	m, err := parseMessage(raw)
	if err != nil {
		return err
	}
	if err := c.checkToken(m); err != nil {
		return err
	}
	return c.apply(m, false)
}

// checkToken compares a message's token with the handshake's cookie.
func (c *Client) checkToken(m message) error {
	if c.CSRFToken == "" || subtle.ConstantTimeCompare([]byte(m.csrfToken), []byte(c.CSRFToken)) != 1 {
		c.Log.Info("client message rejected: wrong xrftoken", "user", c.Session.Identity().Name,
			"address", relay.AddressText(c.Session.Address()))
		return errAccessDenied
	}
	return nil
}

// apply makes the groups of a message the client's. With strict, which is for a client without a response yet, a
// message without an allowed group is an error that tells why the first group is denied.
func (c *Client) apply(m message, strict bool) error {
	if !m.hasGroups {
		return nil
	}
	requests, parseErr := m.groupRequests()
	decisions, index := deduplicate(requests)
	if limit := c.Session.Limits().GroupsPerConnection; limit > 0 && len(decisions) > limit {
		return relay.TooManyGroupsError{Wanted: len(decisions), Limit: limit}
	}
	unchanged := c.authorize(decisions)
	if expired(decisions) {
		if strict {
			return relay.ErrExpired
		}
		c.Session.Socket().Close(relay.CloseRestart, relay.RenewReason)
		return nil
	}
	for _, i := range index {
		c.Stats.count(decisions[i].err)
	}
	subs := allowed(decisions)
	if strict && parseErr == nil && len(subs) == 0 && len(decisions) > 0 {
		c.logDenial(&decisions[0])
		return decisions[0].err
	}
	c.sendDenials(decisions, index)
	if parseErr != nil { // as in AWX, the groups before the error have been authorized
		return parseErr
	}
	if c.Positions {
		resume(subs, parseSince(m.since))
	}
	return c.subscribe(subs, unchanged)
}

// resume sets what the client wants of each group from the history.
func resume(subs []relay.Subscription, s since) {
	for i := range subs {
		subs[i].Resume = s.resume(subs[i].Group)
	}
}

// subscribe makes the allowed groups the session's subscriptions and sends the changes. If they are unchanged, the
// session keeps its subscriptions but gets no new ones: a recheck may have ended some in the meantime.
func (c *Client) subscribe(subs []relay.Subscription, unchanged bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), joinTimeout)
	defer cancel()
	subscribe := c.Session.Subscribe
	if unchanged {
		subscribe = c.Session.Keep
	}
	change, err := subscribe(ctx, subs)
	switch {
	case errors.As(err, new(relay.TooManyGroupsError)):
		return err
	case err != nil:
		// The client has the subscription, which takes effect once the layer is reachable.
		c.Log.Warn("subscription delayed by the channel layer", "groups", change.Joined, "error", err)
	}
	c.Session.SendChange(change, changeText)
	return nil
}
