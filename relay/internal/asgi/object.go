package asgi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/tinylib/msgp/msgp"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// ErrObject is the error for a message that cannot become a JSON object.
var ErrObject = errors.New("the message has no JSON form")

var (
	errExtension = errors.New("a value is an extension of msgpack, such as a timestamp, which JSON lacks")
	errName      = errors.New("the name of a member is none that JSON can have, such as bytes")
)

// channelsMember is the member with the receiving channels.
const channelsMember = "__asgi_channel__"

// checkType returns why clients cannot get messages of a type.
func checkType(kind string) error {
	if len(kind) > relay.MaxMessageType {
		return fmt.Errorf("the type is longer than %d bytes", relay.MaxMessageType)
	}
	return nil
}

// packedObject returns the JSON object of a msgpack map, without the members that belong to the channel layer; nil for
// a message without a type.
// See docs/decisions/layers.md#why-do-messages-of-any-type-become-json-as-python-writes-it
func packedObject(b []byte, kind string) ([]byte, error) {
	if kind == "" {
		return nil, nil
	}
	err := checkType(kind)
	if err == nil {
		u := unpacker{b: b}
		var text []byte
		if text, err = u.object(make([]byte, 0, len(b)+len(b)/4), true); err == nil {
			return text, nil
		}
	}
	return nil, fmt.Errorf("%w: type %.64q: %w", ErrObject, kind, err)
}

// unpacker reads msgpack, and writes JSON.
type unpacker struct {
	b       []byte // the rest
	depth   int
	objects pyjson.Objects
}

// value appends the next value to dst.
func (u *unpacker) value(dst []byte) (_ []byte, err error) {
	switch msgp.NextType(u.b) {
	case msgp.StrType:
		var s []byte
		if s, u.b, err = msgp.ReadStringZC(u.b); err != nil {
			return dst, err
		}
		return pyjson.AppendText(dst, s)
	case msgp.BinType:
		var s []byte
		if s, u.b, err = msgp.ReadBytesZC(u.b); err != nil {
			return dst, err
		}
		return append(base64.StdEncoding.AppendEncode(append(dst, '"'), s), '"'), nil
	case msgp.MapType:
		return u.object(dst, false)
	case msgp.ArrayType:
		return u.list(dst)
	}
	return u.scalar(dst)
}

// scalar appends a number, a truth value or null.
func (u *unpacker) scalar(dst []byte) (_ []byte, err error) {
	switch msgp.NextType(u.b) {
	case msgp.IntType:
		var i int64
		i, u.b, err = msgp.ReadInt64Bytes(u.b)
		return strconv.AppendInt(dst, i, 10), err
	case msgp.UintType:
		var i uint64
		i, u.b, err = msgp.ReadUint64Bytes(u.b)
		return strconv.AppendUint(dst, i, 10), err
	case msgp.Float64Type:
		var f float64
		f, u.b, err = msgp.ReadFloat64Bytes(u.b)
		return pyjson.AppendFloat(dst, f), err
	case msgp.Float32Type:
		var f float32
		f, u.b, err = msgp.ReadFloat32Bytes(u.b)
		return pyjson.AppendFloat(dst, float64(f)), err
	case msgp.BoolType:
		var b bool
		b, u.b, err = msgp.ReadBoolBytes(u.b)
		return strconv.AppendBool(dst, b), err
	case msgp.NilType:
		u.b, err = msgp.ReadNilBytes(u.b)
		return append(dst, "null"...), err
	case msgp.InvalidType:
		return dst, msgp.ErrShortBytes
	default:
		return dst, errExtension
	}
}

// list appends the next value, a list, to dst.
func (u *unpacker) list(dst []byte) ([]byte, error) {
	n, b, err := msgp.ReadArrayHeaderBytes(u.b)
	if err != nil {
		return dst, err
	}
	if u.depth++; u.depth > pyjson.MaxDepth {
		return dst, pyjson.ErrDepth
	}
	u.b = b
	dst = append(dst, '[')
	for i := range n {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if dst, err = u.value(dst); err != nil {
			return dst, err
		}
	}
	u.depth--
	return append(dst, ']'), nil
}

// object appends the next value, a map, to dst. whole: it is the message.
func (u *unpacker) object(dst []byte, whole bool) ([]byte, error) {
	n, b, err := msgp.ReadMapHeaderBytes(u.b)
	if err != nil {
		return dst, err
	}
	if u.depth++; u.depth > pyjson.MaxDepth {
		return dst, pyjson.ErrDepth
	}
	u.b = b
	dst, o := u.objects.Open(dst)
	for range n {
		before := len(dst)
		dst = o.Begin(dst)
		from := len(dst)
		if dst, err = u.name(dst); err != nil {
			return dst, err
		}
		if whole && isLayers(dst[from:]) {
			dst = dst[:before]
			if u.b, err = msgp.Skip(u.b); err != nil {
				return dst, err
			}
			continue
		}
		dst = o.Named(dst)
		if dst, err = u.value(dst); err != nil {
			return dst, err
		}
		dst = o.End(dst)
	}
	u.depth--
	return o.Close(dst), nil
}

// isLayers reports whether a quoted name is that of a member that belongs to the channel layer.
func isLayers(name []byte) bool {
	return string(name) == `"`+channelsMember+`"` || string(name) == `"`+relay.SenderMember+`"`
}

// name appends the name of a member, as json.dumps converts it. For keys of a dict that get the same name, such as 1
// and "1", json.dumps writes two members. Browsers take the last one, and plugins would find the first: only the last
// is written.
func (u *unpacker) name(dst []byte) (_ []byte, err error) {
	switch msgp.NextType(u.b) {
	case msgp.StrType:
		var s []byte
		if s, u.b, err = msgp.ReadStringZC(u.b); err != nil {
			return dst, err
		}
		return pyjson.AppendText(dst, s)
	case msgp.BinType, msgp.MapType, msgp.ArrayType:
		return dst, errName
	default:
		dst, err = u.scalar(append(dst, '"'))
		return append(dst, '"'), err
	}
}

// jsonObject reads a message of any type in JSON. The message's type is none of AWX's.
func jsonObject(b []byte) (m Message, err error) {
	r := pyjson.NewReader(b)
	var objects pyjson.Objects
	dst, o := objects.Open(make([]byte, 0, len(b)))
	err = r.Members(func(name []byte) error {
		switch string(name) {
		case `"` + channelsMember + `"`:
			value, err := r.Value(nil)
			m.Channels = stringList(value)
			return err
		case `"` + relay.SenderMember + `"`:
			value, err := r.Value(nil)
			m.Sender = text(value)
			return err
		}
		dst = o.Named(append(o.Begin(dst), name...))
		from := len(dst)
		var err error
		if dst, err = r.Value(dst); err != nil {
			return err
		}
		switch string(name) {
		case `"type"`:
			m.Type = text(dst[from:])
		case `"needs_relay"`:
			m.NeedsRelay = string(dst[from:]) == "true"
		}
		dst = o.End(dst)
		return nil
	})
	if err == nil {
		err = r.End()
	}
	if err == nil {
		err = checkType(m.Type)
	}
	switch {
	case errors.Is(err, pyjson.ErrSyntax): // The message is in another encoding.
		return Message{}, err
	case err != nil:
		return m, fmt.Errorf("%w: type %.64q: %w", ErrObject, m.Type, err)
	case m.Type != "":
		m.Object = o.Close(dst)
	}
	return m, nil
}

// text returns the text of a JSON string, empty for another value.
func text(value []byte) (s string) {
	_ = json.Unmarshal(value, &s)
	return s
}

// stringList returns a JSON list of strings, or a string, as a list.
func stringList(value []byte) (list stringOrList) {
	_ = json.Unmarshal(value, &list)
	return list
}
