package redis

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tinylib/msgp/msgp"
)

// randomPrefix is the length in bytes of the random prefix that makes every message of a sorted set unique.
const randomPrefix = 12

// message is what the relay understands of a channel layer message.
type message struct {
	Type       string
	Text       []byte
	NeedsRelay bool
	Groups     []string // of consumer.subscribe and consumer.unsubscribe
	Origin     string
	Channels   []string // the channels that it is for, in full
}

var errTooShort = errors.New("shorter than its random prefix")

// decode reads a message as it is kept in Redis. Text is a part of raw.
func decode(serializer string, raw []byte) (message, error) {
	if len(raw) < randomPrefix {
		return message{}, errTooShort
	}
	if serializer == "json" {
		return decodeJSON(raw[randomPrefix:])
	}
	return decodeMsgpack(raw[randomPrefix:])
}

func decodeMsgpack(b []byte) (m message, err error) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return m, err
	}
	for range n {
		var key []byte
		if key, b, err = readText(b); err != nil {
			return m, err
		}
		switch string(key) {
		case "type":
			m.Type, b, err = readString(b)
		case "text":
			m.Text, b, err = readText(b)
		case "needs_relay":
			if msgp.NextType(b) == msgp.BoolType {
				m.NeedsRelay, b, err = msgp.ReadBoolBytes(b)
			} else {
				b, err = msgp.Skip(b)
			}
		case "origin_channel":
			m.Origin, b, err = readString(b)
		case "groups":
			m.Groups, b, err = readStrings(b)
		case "__asgi_channel__":
			m.Channels, b, err = readStrings(b)
		default:
			b, err = msgp.Skip(b)
		}
		if err != nil {
			return m, fmt.Errorf("%q: %w", key, err)
		}
	}
	return m, nil
}

// readText reads a str, or a bin, without copying it.
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

// readStrings reads a list of strings, or one string alone.
func readStrings(b []byte) (list []string, rest []byte, err error) {
	if msgp.NextType(b) != msgp.ArrayType {
		s, rest, err := readString(b)
		return []string{s}, rest, err
	}
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return nil, b, err
	}
	if int64(n) > int64(len(b)) { // each string takes a byte at least
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

// stringOrList is a JSON string, or a list of them.
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
}

func decodeJSON(b []byte) (message, error) {
	var m jsonMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return message{}, err
	}
	return message{m.Type, []byte(m.Text), m.NeedsRelay, m.Groups, m.Origin, m.Channels}, nil
}

// encode writes an event for channels, as an AWX emitter does.
func encode(serializer string, text []byte, channels []string) ([]byte, error) {
	b := make([]byte, randomPrefix, randomPrefix+128+len(text)+64*len(channels))
	_, _ = rand.Read(b) // never fails
	if serializer == "json" {
		j, err := json.Marshal(map[string]any{
			"type": internalMessage, "text": string(text), "needs_relay": true, "__asgi_channel__": channels,
		})
		if err != nil {
			return nil, err
		}
		return append(b, j...), nil
	}
	b = msgp.AppendMapHeader(b, 4)
	b = msgp.AppendString(msgp.AppendString(b, "type"), internalMessage)
	b = msgp.AppendString(b, "text")
	b = msgp.AppendStringFromBytes(b, text)
	b = msgp.AppendBool(msgp.AppendString(b, "needs_relay"), true)
	b = msgp.AppendString(b, "__asgi_channel__")
	b = msgp.AppendArrayHeader(b, uint32(len(channels)))
	for _, c := range channels {
		b = msgp.AppendString(b, c)
	}
	return b, nil
}

// internalMessage is the type of a message that holds an event.
const internalMessage = "internal.message"
