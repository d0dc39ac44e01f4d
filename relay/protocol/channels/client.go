package channels

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// RemovedReason is the close reason for clients of a route that a reload has removed or given other groups.
const RemovedReason = "route changed; reconnect"

// Client handles the messages of one client of a route. It is the Handler of relay/transport/ws.
type Client struct {
	route   *Route
	session relay.Session
	targets *Targets // nil unless the route publishes messages
	next    Handler  // nil unless a backend gets the messages
	release func()   // of [Route.Reserve]
	budget  budget
}

// Handler gets the messages of a client that the route's limits let through, as a handler of relay/transport/ws does.
// Ended closes the session.
type Handler interface {
	Message(text bool, message []byte)
	Closed(code int, reason string)
	Ended()
}

// OpenBehind is Open for a client whose messages go to next.
func (r *Route) OpenBehind(session relay.Session, next Handler, release func()) *Client {
	c := r.Open(session, nil, release)
	c.next = next
	return c
}

// Open makes a session of the route a client. The session has subscribed, or does so next. release is that of
// [Route.Reserve].
func (r *Route) Open(session relay.Session, targets *Targets, release func()) *Client {
	r.Stats.Connections.Add(1)
	r.Stats.Opened.Add(1)
	if r.removed.Load() { // the sessions that a reload closes may lack this one
		session.Socket().Close(relay.CloseRestart, RemovedReason)
	}
	return &Client{route: r, session: session, targets: targets, release: release}
}

// Ended closes the session after the connection has ended.
func (c *Client) Ended() {
	if c.next != nil {
		c.next.Ended()
	} else {
		c.session.Close()
	}
	c.release()
	c.route.Stats.Connections.Add(-1)
}

// Closed tells a backend of the client's close frame.
func (c *Client) Closed(code int, reason string) {
	if c.next != nil {
		c.next.Closed(code, reason)
	}
}

// Message handles a client's message. Calls must not overlap.
func (c *Client) Message(text bool, message []byte) {
	r, settings := c.route, c.route.settings.Load()
	rate := settings.MessageRate
	if rate == 0 {
		rate = c.session.Limits().SubscribeRate
	}
	if rate > 0 && !c.budget.take(time.Now(), rate) {
		r.Stats.Refused.Add(1)
		r.log.Info("client disconnected: too many messages", "user", c.session.Identity().Name,
			"address", relay.AddressText(c.session.Address()), "messages_per_second", rate)
		c.close(relay.ClosePolicy, "too many messages")
		return
	}
	if c.next != nil {
		c.next.Message(text, message)
		return
	}
	switch settings.Messages.Action {
	case IgnoreMessages:
		r.Stats.Dropped.Add(1)
	case RefuseMessages:
		r.Stats.Refused.Add(1)
		c.close(relay.ClosePolicy, "messages are not accepted")
	case PublishMessages:
		c.publish(&settings.Messages, text, message)
	case SubscribeMessages:
		c.subscribe(&settings.Messages, text, message)
	}
}

// publish publishes a client's message.
func (c *Client) publish(m *Messages, text bool, message []byte) {
	r := c.route
	values := c.targets.of(m)
	if values == nil { // the reload has changed what only a handshake can tell
		c.close(relay.CloseRestart, RemovedReason)
		return
	}
	object, why := m.object(text, message, values.sets)
	if why != nil {
		r.Stats.Malformed.Add(1)
		c.close(why.code, why.reason)
		return
	}
	out := relay.Message{Type: m.Type, Text: object}
	if !text {
		out.Binary = m.binaryNames
	}
	if m.Others {
		out.Sender = c.session.Sender()
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	for _, group := range values.groups {
		out.Group = group
		if _, err := r.node.Publish(ctx, out); err != nil {
			r.Stats.Failed.Add(1)
			r.log.Warn("client message not published", "route", r.Path, "group", group, "error", err)
			c.close(CloseFailed, "message not published")
			return
		}
	}
	r.Stats.Published.Add(1)
}

// publishTimeout bounds the time for which a client's message waits for the channel layer. Meanwhile, the client's next
// message is not read.
const publishTimeout = 5 * time.Second

func (c *Client) close(code int, reason string) { c.session.Socket().Close(code, reason) }
