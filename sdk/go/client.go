package edgerelay

import "strings"

// Client is the connection that the hook at hand is about. Its effects happen in order, after the hook has succeeded;
// those of a hook that fails do not happen. They return an [EffectError] if the host refuses them. A client is valid
// until the hook returns. [Client.ID] and the attachment stay the same from hook to hook, while the plugin's variables
// may be those of another instance.
type Client struct{}

// ID returns the connection's id, and "" without a client. It is known after the client has left, too.
func (*Client) ID() string {
	n := hostConnectionID(scratch[:])
	return string(scratch[:min(max(n, 0), len(scratch))])
}

// Present reports whether the call is about a client. There is none in a continuation of a request that an event, a
// tick or an alarm made. The continuation of a client that has left still knows its attachment, and other effects on it
// return [ErrNoClient].
func (*Client) Present() bool { return hostConnectionID(scratch[:]) >= 0 }

// Attachment returns the text that [Client.SetAttachment] stored, and "" before.
func (*Client) Attachment() string {
	s, _ := text(func(_ string, b []byte) int { return hostAttachmentGet(b) }, "")
	return s
}

// AttachmentText returns the value at path in an attachment that is JSON, such as one of [Object].
func (c *Client) AttachmentText(path string) string {
	s, _ := TextAt(c.Attachment(), path)
	return s
}

// SetAttachment keeps a text of at most 16 KiB with the connection. The next hooks of this client read it.
func (*Client) SetAttachment(text string) error {
	return effect("attachment", hostAttachmentSet(text), ErrTooLarge)
}

// Send sends a text frame to the client, at most 64 of them in a call.
func (*Client) Send(text string) error { return effect("send", hostSend(0, text), ErrText) }

// SendBinary sends a binary frame to the client.
func (*Client) SendBinary(data []byte) error {
	return effect("send", hostSend(1, string(data)), ErrText)
}

// Join subscribes the client to a group, which must be among the patterns of the plugin's setting join.
func (*Client) Join(group string) error { return effect("join "+group, hostJoin(group), ErrGroup) }

// Leave ends a subscription of the client.
func (*Client) Leave(group string) error { return effect("leave "+group, hostLeave(group), ErrGroup) }

// Publish is like the function [Publish].
func (*Client) Publish(group, text string) error { return Publish(group, text) }

// PublishOthers is like [Publish], for all clients of the group but this one.
func (*Client) PublishOthers(group, text string) error { return publish(group, "", text, 1) }

// Close closes the connection. code is 1000, 1008, 1011, 1013 or 3000 to 4999. reason has at most 123 bytes.
func (*Client) Close(code int, reason string) error {
	return effect("close", hostClose(int32(code), reason), ErrCode)
}

// Publish sends a text to all clients of a group on all nodes. The group must be among the patterns of the plugin's
// setting publish. Every hook may publish.
func Publish(group, text string) error { return publish(group, "", text, 0) }

// PublishMessage sends a message to all consumers of a group on all nodes, such as those of Django Channels: kind is
// the message's type, and members is a JSON object with its other members, see [Object].
func PublishMessage(group, kind, members string) error { return publish(group, kind, members, 0) }

func publish(group, kind, text string, flags int32) error {
	return effect("publish "+group, hostPublish(group, kind, text, flags), ErrGroup)
}

// AutoResponse makes the relay answer text messages that equal request, such as a heartbeat, without a call of the
// plugin. It has an effect in [Init] only, for at most 10 pairs of 2,048 bytes each.
func AutoResponse(request, response string) error {
	return effect("auto response", hostAutoResponse(request, response), ErrTooLarge)
}

// EffectError is the reason why an effect or a request was refused.
type EffectError int32

// Reasons.
const (
	ErrLimit      EffectError = -1 // too many in one call, or in flight
	ErrTooLarge   EffectError = -2
	ErrNotGranted EffectError = -3 // no pattern of join or publish matches the group, or a grant is missing
	ErrMalformed  EffectError = -4
	// ErrNoClient means that there is no client, that it has left, or that the event is a replay. A hook that returns it
	// has not failed.
	ErrNoClient EffectError = -5

	// What ErrMalformed means for an effect.
	ErrText  EffectError = -100 // not UTF-8
	ErrGroup EffectError = -101 // no group name
	ErrCode  EffectError = -102 // a code or a reason that a plugin cannot close with
)

// Error returns the reason as text.
func (e EffectError) Error() string {
	switch e {
	case ErrLimit:
		return "too many in one call, or in flight"
	case ErrTooLarge:
		return "too large"
	case ErrNotGranted:
		return "not granted; add the group to the plugin's join or publish patterns"
	case ErrNoClient:
		return "there is no client, it has left, or the event is a replay"
	case ErrText:
		return "not UTF-8"
	case ErrGroup:
		return "not a group name; use 1 to 99 of A-Z a-z 0-9 - _ ."
	case ErrCode:
		return "use the code 1000, 1008, 1011, 1013 or 3000 to 4999, and a reason of at most 123 bytes"
	}
	return "malformed"
}

// effect returns the error of an effect, and logs it, since authors seldom check. malformed replaces ErrMalformed.
func effect(what string, code int32, malformed EffectError) error {
	if code >= 0 {
		return nil
	}
	e := EffectError(code)
	if e == ErrMalformed {
		e = malformed
	}
	if e != ErrNoClient {
		Log(LevelWarn, what+": "+e.Error())
	}
	return e
}

// Connect is a request to connect, with its client: what is sent, joined or attached here holds if the connection is
// accepted. [Document.Text] reads id, path, query, params, user, user_key, user_name, address, headers and
// subprotocols.
type Connect struct {
	Client
	Document
}

// Path returns the path of the request.
func (c *Connect) Path() string { return c.value("path") }

// Param returns a placeholder of the route's path: "room" of "/ws/game/{room}/".
func (c *Connect) Param(name string) string { return c.value("params." + escapeName(name)) }

// User returns a member of the user's profile, such as "username", and "" for anonymous users.
func (c *Connect) User(path string) string { return c.value("user." + path) }

// UserName returns the user's name, as the authorizer of the route tells it, and "" for anonymous users.
func (c *Connect) UserName() string { return c.value("user_name") }

// Header returns a header that the route grants. The name is case-insensitive.
func (c *Connect) Header(name string) string {
	return c.value("headers." + escapeName(strings.ToLower(name)))
}

// Query returns the first value of a parameter of the query string, decoded.
func (c *Connect) Query(name string) string {
	for rest := c.value("query"); rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if key, value, _ := strings.Cut(pair, "="); decodeQuery(key) == name {
			return decodeQuery(value)
		}
	}
	return ""
}

func (c *Connect) value(path string) string {
	s, _ := c.Text(path)
	return s
}

// decodeQuery decodes a part of a query string. A percent sign without two hexadecimal digits stands for itself.
func decodeQuery(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(s) && hexDigit(s[i+1]) >= 0 && hexDigit(s[i+2]) >= 0:
			c = byte(hexDigit(s[i+1])<<4 | hexDigit(s[i+2]))
			i += 2
		}
		out = append(out, c)
	}
	return string(out)
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// Admission is the decision about a [Connect].
type Admission uint64

// Admissions; see also [RejectWith] and [RejectBecause].
const (
	Accept          Admission = 0
	Reject          Admission = 1 // with the HTTP status 403
	AdmissionFailed Admission = 2 // the plugin failed; the client gets the HTTP status 503
)

// RejectWith rejects the connection with an HTTP status, 400 to 599.
func RejectWith(status int) Admission { return 0x10000 + Admission(status) }

// RejectBecause rejects the connection with the HTTP status 403, and logs the reason.
func RejectBecause(reason string) Admission { return Admission(result([]byte(reason))) }

// AdmitIf accepts if err is nil. Otherwise it logs the error and returns [AdmissionFailed]. The client gets the HTTP
// status 403 if it cannot join a group, because of the name or of the plugin's setting join, and 503 for any other
// error.
func AdmitIf(err error) Admission {
	if err == nil {
		return Accept
	}
	Log(LevelError, err.Error())
	return AdmissionFailed
}

// Message is a message of a client. It is valid until the hook returns. The methods of [Document] read JSON.
type Message struct {
	Document
	// Binary is whether the message is binary, not text.
	Binary bool

	reply   []byte
	replies bool
}

// String returns the whole message.
func (m *Message) String() string { return string(m.Payload) }

// Reply sends a message of the same kind back to the client, after the frames of [Client.Send]. It is the fastest way
// to answer. The last call counts.
func (m *Message) Reply(payload []byte) { m.reply, m.replies = payload, true }

// Closing is the end of a connection.
type Closing struct {
	Code   int // of the close frame; 1006 without one
	Reason string
}

// Alarm is an alarm that is due. An alarm of [Alarms] comes at least once: if the hook fails, or its node, it comes
// again.
type Alarm struct {
	// Name is the name that the alarm was set with. The methods of [Document] read the payload.
	Name string
	Document
}

// String returns the payload.
func (a *Alarm) String() string { return string(a.Payload) }
