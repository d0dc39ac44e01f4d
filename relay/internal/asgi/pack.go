package asgi

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tinylib/msgp/msgp"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// Object returns the Text of the event that a message becomes: a JSON object as Python writes it, with the type first.
// Members that belong to the channel layer are left out. For a message without a type, it is the message's text. The
// error wraps [relay.ErrInvalidMessage].
func Object(m *relay.Message) ([]byte, error) {
	if m.Type == "" {
		return m.Text, nil
	}
	if err := m.CheckType(); err != nil {
		return nil, err
	}
	b, err := pyjson.AppendText([]byte(`{"type": `), []byte(m.Type))
	if err != nil {
		return nil, fmt.Errorf("%w: the type is %w", relay.ErrInvalidMessage, err)
	}
	text, err := pyjson.Append(nil, m.Text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", relay.ErrInvalidMessage, err)
	}
	r := pyjson.NewReader(text)
	err = r.Members(func(name []byte) error {
		value, err := r.Value(nil)
		if err == nil && string(name) != `"type"` && !isLayers(name) {
			b = append(append(append(append(b, ", "...), name...), ": "...), value...)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: a message with a type must be a JSON object", relay.ErrInvalidMessage)
	}
	return append(b, '}'), nil
}

// Packed is a message for a group, encoded except for the receiving channels.
type Packed struct {
	members uint32 // in msgpack; 0: JSON
	raw     []byte
}

// Pack encodes a message as an emitter would. Strings become str, integers ints, other numbers floats, and the members
// that Binary names become bin; JSON has no bytes, so that Binary members stay base64 there.
func (c *Codec) Pack(m *relay.Message) (p Packed, err error) {
	object, err := Object(m)
	if err != nil {
		return p, err
	}
	if m.Type == "" {
		text, err := pyjson.AppendText(nil, m.Text)
		if err != nil {
			return p, fmt.Errorf("%w: the text is %w", relay.ErrInvalidMessage, err)
		}
		object = append([]byte(`{"type": "`+internalMessage+`", "text": `), text...)
		object = append(object, `, "needs_relay": true}`...)
	}
	if m.Sender != "" {
		object = append(object[:len(object)-1], `, "`+relay.SenderMember+`": `...)
		object = append(pyjson.AppendString(object, m.Sender), '}')
	}
	if c.json {
		return Packed{raw: object}, nil
	}
	binary := make(map[string]bool, len(m.Binary))
	for _, name := range m.Binary {
		binary[string(pyjson.AppendString(nil, name))] = true
	}
	p.raw = make([]byte, 0, len(object))
	r := pyjson.NewReader(object)
	err = r.Members(func(name []byte) error {
		value, err := r.Value(nil)
		if err != nil {
			return err
		}
		p.members++
		if p.raw, _, err = pack(p.raw, name); err != nil {
			return err
		}
		if binary[string(name)] {
			p.raw, err = packBytes(p.raw, value)
		} else {
			p.raw, _, err = pack(p.raw, value)
		}
		if err != nil {
			err = fmt.Errorf("%w: member %s: %w", relay.ErrInvalidMessage, name, err)
		}
		return err
	})
	return p, err
}

// EncodePacked encodes a message for channels. A message of pub/sub has no channels.
func (c *Codec) EncodePacked(p Packed, channels []string) ([]byte, error) {
	room := c.Random + 32 + len(p.raw) + 64*len(channels)
	b := make([]byte, c.Random, room)
	_, _ = rand.Read(b) // never fails
	if len(c.keys) > 0 {
		plain := p.appendTo(make([]byte, 0, room), channels)
		return c.keys.seal(b, plain, time.Now()), nil
	}
	return p.appendTo(b, channels), nil
}

func (p *Packed) appendTo(b []byte, channels []string) []byte {
	if p.members == 0 {
		b = append(b, p.raw...)
		if channels != nil {
			b = append(b[:len(b)-1], `, "`+channelsMember+`": `...)
			b = append(pyjson.AppendStrings(b, channels), '}')
		}
		return b
	}
	if channels == nil {
		return append(msgp.AppendMapHeader(b, p.members), p.raw...)
	}
	b = append(msgp.AppendMapHeader(b, p.members+1), p.raw...)
	return appendChannels(b, channels)
}

// appendChannels appends the member with the receiving channels.
func appendChannels(b []byte, channels []string) []byte {
	b = msgp.AppendString(b, channelsMember)
	b = msgp.AppendArrayHeader(b, uint32(len(channels)))
	for _, c := range channels {
		b = msgp.AppendString(b, c)
	}
	return b
}

// packBytes appends the bytes of a base64 string.
func packBytes(dst, value []byte) ([]byte, error) {
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return dst, errors.New("bytes must be a base64 string")
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return dst, errors.New("bytes must be base64, with padding")
	}
	return msgp.AppendBytes(dst, raw), nil
}

// pack appends a JSON value in the form of Python as msgpack, and returns the rest behind it.
func pack(dst, src []byte) (packed, rest []byte, err error) {
	switch src[0] {
	case '"':
		return packText(dst, src)
	case '{':
		return packList(dst, src, 0xdf)
	case '[':
		return packList(dst, src, 0xdd)
	}
	end := bytes.IndexAny(src, ",]}")
	if end < 0 {
		end = len(src)
	}
	dst, err = packScalar(dst, string(src[:end]))
	return dst, src[end:], err
}

// packScalar appends a number, a truth value or null.
func packScalar(dst []byte, s string) ([]byte, error) {
	switch s {
	case "true", "false":
		return msgp.AppendBool(dst, s == "true"), nil
	case "null":
		return msgp.AppendNil(dst), nil
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return msgp.AppendInt64(dst, i), nil
	}
	if i, err := strconv.ParseUint(s, 10, 64); err == nil {
		return msgp.AppendUint64(dst, i), nil
	}
	if !strings.ContainsAny(s, ".eNy") {
		return dst, fmt.Errorf("the integer %.40s has more than the 64 bits of msgpack", s)
	}
	f, err := strconv.ParseFloat(s, 64) // also of NaN and Infinity
	return msgp.AppendFloat64(dst, f), err
}

// packText appends a string.
func packText(dst, src []byte) (packed, rest []byte, err error) {
	end := 1
	escaped := false
	for ; src[end] != '"'; end++ {
		if src[end] == '\\' {
			escaped = true
			end++
		}
	}
	if !escaped {
		return msgp.AppendStringFromBytes(dst, src[1:end]), src[end+1:], nil
	}
	var s string
	err = json.Unmarshal(src[:end+1], &s)
	return msgp.AppendString(dst, s), src[end+1:], err
}

// packList appends a list or an object. Its length is only known in the end, so that it has the header for any length.
func packList(dst, src []byte, header byte) (packed, rest []byte, err error) {
	at := len(dst)
	dst = append(dst, header, 0, 0, 0, 0)
	n := uint32(0)
	for src = src[1:]; src[0] != ']' && src[0] != '}'; n++ {
		src = bytes.TrimPrefix(src, []byte(", "))
		if header == 0xdf {
			if dst, src, err = packText(dst, src); err != nil {
				return dst, src, err
			}
			src = src[len(": "):]
		}
		if dst, src, err = pack(dst, src); err != nil {
			return dst, src, err
		}
	}
	binary.BigEndian.PutUint32(dst[at+1:], n)
	return dst, src[1:], nil
}
