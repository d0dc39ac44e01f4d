// Package asgi encodes and decodes the messages of channels_redis: msgpack or JSON, plain or encrypted with Fernet, and
// counts skipped messages.
package asgi

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tinylib/msgp/msgp"

	"github.com/edgerelay/edgerelay/relay"
)

// RandomPrefix is the length in bytes of the random prefix that makes every message in a sorted set unique.
const RandomPrefix = 12

// Message has the fields of a channel layer message that the relay uses.
type Message struct {
	Type       string
	Text       []byte
	NeedsRelay bool
	Groups     []string // of consumer.subscribe and consumer.unsubscribe
	Origin     string
	Channels   []string // the full names of the receiving channels
	Sender     string   // the client that published the message and does not get it
	// Object is a message of another type as a JSON object, see [relay.Event.Text]; nil if such messages are not
	// wanted.
	Object []byte
}

// isAWX reports whether the message is of a type that AWX uses.
func (m *Message) isAWX() bool {
	return m.Type == internalMessage || m.isControl()
}

func (m *Message) isControl() bool { return m.Type == subscribe || m.Type == unsubscribe }

// Event returns the event of the message. ok is false for a message that the relay does not deliver.
func (m *Message) Event() (ev relay.Event, ok bool) {
	switch m.Type {
	case internalMessage:
		// Daphne sends no frame for an empty text either.
		return relay.Event{Text: m.Text, NeedsRelay: m.NeedsRelay, Sender: m.Sender}, len(m.Text) > 0
	case subscribe, unsubscribe:
		return relay.Event{
			Text: m.Text, NeedsRelay: m.NeedsRelay,
			Control: &relay.Control{Type: m.Type, Groups: m.Groups, Origin: m.Origin},
		}, true
	}
	return relay.Event{Type: m.Type, Text: m.Object, NeedsRelay: m.NeedsRelay, Sender: m.Sender}, m.Object != nil
}

var errTooShort = errors.New("the message is shorter than its random prefix")

// Codec encodes and decodes messages with the emitters' settings.
type Codec struct {
	json   bool
	keys   keyring
	Random int           // number of random bytes before each message
	TTL    time.Duration // maximum age of encrypted messages; 0: unlimited
}

// NewCodec returns a codec without random bytes and without a maximum age.
func NewCodec(serializer string, keys []string) (Codec, error) {
	if serializer != "msgpack" && serializer != "json" {
		return Codec{}, fmt.Errorf("serializer %q is not one of msgpack, json", serializer)
	}
	for _, k := range keys {
		if k == "" {
			return Codec{}, errors.New("one of symmetric_encryption_keys is empty")
		}
	}
	return Codec{json: serializer == "json", keys: newKeyring(keys)}, nil
}

// Decode decodes a message as Redis keeps it. Text is a part of raw, unless raw is encrypted. With any, messages of
// types that AWX does not use have an Object; if one cannot be made, the error wraps [ErrObject], and Channels are
// known.
func (c *Codec) Decode(raw []byte, any bool) (Message, error) {
	if len(raw) < c.Random {
		return Message{}, errTooShort
	}
	raw = raw[c.Random:]
	if len(c.keys) > 0 {
		var err error
		if raw, err = c.keys.open(raw, c.TTL, time.Now()); err != nil {
			return Message{}, err
		}
	}
	if c.json {
		return decodeJSON(raw, any)
	}
	m, err := decodeMsgpack(raw)
	if any && err == nil && !m.isAWX() {
		m.Object, err = packedObject(raw, m.Type)
	}
	return m, err
}

func decodeMsgpack(b []byte) (m Message, err error) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return m, err
	}
	// Members of messages of other types belong to other applications.
	var oddText bool
	var odd error
	for range n {
		if kind := msgp.NextType(b); kind != msgp.StrType && kind != msgp.BinType {
			if b, err = skipMember(b); err != nil {
				return m, err
			}
			continue
		}
		var key []byte
		if key, b, err = readText(b); err != nil {
			return m, err
		}
		value, was := b, error(nil)
		switch string(key) {
		case "type":
			m.Type, b, err = readString(b)
		case "text":
			if kind := msgp.NextType(b); kind == msgp.StrType || kind == msgp.BinType {
				m.Text, b, err = readText(b)
			} else {
				oddText = true
				b, err = msgp.Skip(b)
			}
		case "needs_relay":
			if msgp.NextType(b) == msgp.BoolType {
				m.NeedsRelay, b, err = msgp.ReadBoolBytes(b)
			} else {
				b, err = msgp.Skip(b)
			}
		case "origin_channel":
			m.Origin, b, was = readString(b)
		case "groups":
			m.Groups, b, was = readStrings(b)
		case relay.SenderMember:
			m.Sender, b, was = readString(b)
		case channelsMember:
			m.Channels, b, err = readStrings(b)
		default:
			b, err = msgp.Skip(b)
		}
		if was != nil {
			odd = fmt.Errorf("%q: %w", key, was)
			b, err = msgp.Skip(value)
		}
		if err != nil {
			return m, fmt.Errorf("%q: %w", key, err)
		}
	}
	switch {
	case oddText && m.Type == internalMessage:
		return m, errText
	case m.isControl():
		return m, odd
	}
	return m, nil
}

// skipMember skips a member whose name is not a string.
func skipMember(b []byte) (rest []byte, err error) {
	if b, err = msgp.Skip(b); err != nil {
		return b, err
	}
	return msgp.Skip(b)
}

// readText reads a str or a bin without a copy.
func readText(b []byte) (text, rest []byte, err error) {
	if msgp.NextType(b) == msgp.BinType {
		return msgp.ReadBytesZC(b)
	}
	return msgp.ReadStringZC(b)
}

func readString(b []byte) (string, []byte, error) {
	text, rest, err := readText(b)
	return string(text), rest, err
}

// readStrings reads a list of strings, or a single string.
func readStrings(b []byte) (list []string, rest []byte, err error) {
	if msgp.NextType(b) != msgp.ArrayType {
		s, rest, err := readString(b)
		return []string{s}, rest, err
	}
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return nil, b, err
	}
	if int64(n) > int64(len(b)) { // Each string takes at least a byte.
		return nil, b, msgp.ErrShortBytes
	}
	list = make([]string, n)
	for i := range list {
		if list[i], b, err = readString(b); err != nil {
			return nil, b, err
		}
	}
	return list, b, nil
}

// stringOrList is a JSON string or a list of strings.
type stringOrList []string

func (s *stringOrList) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*s = make([]string, 1)
		return json.Unmarshal(b, &(*s)[0])
	}
	return json.Unmarshal(b, (*[]string)(s))
}

type jsonMessage struct {
	Type       string       `json:"type"`
	Text       string       `json:"text"`
	NeedsRelay bool         `json:"needs_relay"`
	Groups     []string     `json:"groups"`
	Origin     string       `json:"origin_channel"`
	Channels   stringOrList `json:"__asgi_channel__"`
	Sender     any          `json:"edgerelay_sender"`
}

func decodeJSON(b []byte, any bool) (Message, error) {
	var j jsonMessage
	err := json.Unmarshal(b, &j)
	m := Message{
		Type: j.Type, Text: []byte(j.Text), NeedsRelay: j.NeedsRelay, Groups: j.Groups, Origin: j.Origin,
		Channels: j.Channels,
	}
	if j.Sender != nil {
		m.Sender, _ = j.Sender.(string)
	}
	switch {
	case m.isAWX() && err == nil:
		return m, nil
	case m.isAWX() && oddField(err) == "text":
		return Message{}, errText
	case m.isAWX():
		return Message{}, err
	case any:
		return jsonObject(b)
	case err != nil && oddField(err) != "" && oddField(err) != "type": // The member belongs to another application.
		return m, nil
	}
	return m, err
}

// oddField returns the member that has another JSON type than AWX's; empty if err has another cause.
func oddField(err error) string {
	var odd *json.UnmarshalTypeError
	if errors.As(err, &odd) {
		return odd.Field
	}
	return ""
}

// Encode encodes an event for channels like an AWX emitter. A message of pub/sub has no channels.
func (c *Codec) Encode(text []byte, channels []string) ([]byte, error) {
	room := c.Random + 128 + len(text) + 64*len(channels)
	b := make([]byte, c.Random, room)
	_, _ = rand.Read(b) // never fails
	if len(c.keys) > 0 {
		plain, err := c.appendMessage(make([]byte, 0, room), text, channels)
		if err != nil {
			return nil, err
		}
		return c.keys.seal(b, plain, time.Now()), nil
	}
	return c.appendMessage(b, text, channels)
}

func (c *Codec) appendMessage(b, text []byte, channels []string) ([]byte, error) {
	if c.json {
		m := map[string]any{"type": internalMessage, "text": string(text), "needs_relay": true}
		if channels != nil {
			m[channelsMember] = channels
		}
		j, err := json.Marshal(m)
		return append(b, j...), err
	}
	n := uint32(3)
	if channels != nil {
		n++
	}
	b = msgp.AppendMapHeader(b, n)
	b = msgp.AppendString(msgp.AppendString(b, "type"), internalMessage)
	b = msgp.AppendString(b, "text")
	b = msgp.AppendStringFromBytes(b, text)
	b = msgp.AppendBool(msgp.AppendString(b, "needs_relay"), true)
	if channels != nil {
		b = appendChannels(b, channels)
	}
	return b, nil
}

const (
	// internalMessage is the type of AWX's events.
	internalMessage = "internal.message"
	// subscribe and unsubscribe are the types of AWX's messages about subscriptions.
	subscribe   = "consumer.subscribe"
	unsubscribe = "consumer.unsubscribe"
)
