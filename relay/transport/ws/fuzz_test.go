package ws

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay/internal/inflate"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
)

// tape is a connection that plays bytes in pieces, and records writes.
type tape struct {
	net.Conn
	in    []byte
	piece int
	out   bytes.Buffer
}

func (t *tape) Read(b []byte) (int, error) {
	if len(t.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, t.in[:min(len(t.in), t.piece)])
	t.in = t.in[n:]
	return n, nil
}

func (t *tape) TryWrite(b []byte) (int, error) { return t.out.Write(b) }

const fuzzLimit = 300

// seer describes messages and frames in words.
type seer struct {
	out  *bytes.Buffer // written frames
	seen []string
}

func (s *seer) Message(text bool, message []byte) {
	s.look()
	s.seen = append(s.seen, fmt.Sprintf("text %v %q", text, message))
}

func (*seer) Ended() {}

// look describes the written frames.
func (s *seer) look() {
	for out := s.out.Next(s.out.Len()); len(out) > 0; out = out[2+out[1]:] { // all frames here are short
		if out[0] == finBit|opPong {
			s.seen = append(s.seen, fmt.Sprintf("pong %q", out[2:2+out[1]]))
		} else {
			s.seen = append(s.seen, fmt.Sprintf("answer %#x %q", out[0], out[2:2+out[1]]))
		}
	}
}

// play reads messages until the connection ends, with a reader's buffer of a size, and describes them in words.
func play(stream []byte, piece, buffer int, deflates bool) []string {
	t := &tape{in: stream, piece: piece}
	s := &seer{out: &t.out}
	c := &Conn{limit: func() int { return fuzzLimit }, handler: s, deflates: deflates}
	netpoll.New().Attach(c.IO(), t, c)
	c.Touch()
	r := reader{c: c, in: make([]byte, buffer)}
	var err error
	for err == nil {
		err = r.readFrame()
	}
	s.look()
	if wrong := (violation{}); errors.As(err, &wrong) {
		s.seen = append(s.seen, fmt.Sprint("close ", wrong.code))
	}
	return s.seen
}

// expect returns the description that RFC 6455 and, with an agreement about compression, RFC 7692 demand. It has all
// bytes at hand.
func expect(b []byte, deflates bool) (seen []string) {
	var message []byte
	kind, deflated, limit := byte(0), false, fuzzLimit // of the message that has begun
	for {
		if len(b) < 2 {
			return seen
		}
		fin, opcode, short := b[0]&0x80 != 0, b[0]&0x0f, int(b[1]&0x7f)
		rsv := b[0] & 0x70
		if rsv != 0 && (rsv != 0x40 || !deflates || opcode != 1 && opcode != 2) || b[1]&0x80 == 0 {
			return append(seen, "close 1002")
		}
		size := 2 + map[int]int{126: 2, 127: 8}[short]
		if len(b) < size {
			return seen
		}
		n := uint64(short)
		switch short {
		case 126:
			n = uint64(binary.BigEndian.Uint16(b[2:]))
		case 127:
			n = binary.BigEndian.Uint64(b[2:])
		}
		if n >= 1<<63 || opcode >= 8 && (n > 125 || !fin) {
			return append(seen, "close 1002")
		}
		if len(b) < size+4 {
			return seen
		}
		known := opcode <= 2 || opcode == 8 || opcode == 9 || opcode == 10
		if opcode < 8 {
			if !known || kind == 0 && opcode == 0 || kind != 0 && opcode != 0 {
				return append(seen, "close 1002")
			}
			if kind == 0 {
				if deflated, limit = rsv != 0, fuzzLimit; deflated {
					limit = maxPayload(fuzzLimit)
				}
			}
			if n > uint64(limit-len(message)) {
				return append(seen, "close 1009")
			}
		}
		mask, payload := b[size:size+4], bytes.Clone(b[size+4:])
		cut := uint64(len(payload)) < n
		if !cut {
			payload = payload[:n]
		}
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
		if opcode < 8 {
			if kind == 0 {
				kind = opcode
			}
			message = append(message, payload...)
			if kind == opText && !deflated && !mayBecomeText(message, fin && !cut) {
				return append(seen, "close 1007")
			}
		}
		if cut {
			return seen
		}
		b = b[uint64(size)+4+n:]
		switch {
		case !known:
			return append(seen, "close 1002")
		case opcode == opPing:
			seen = append(seen, fmt.Sprintf("pong %q", payload))
		case opcode == opClose && len(payload) == 0:
			return append(seen, `answer 0x88 ""`)
		case opcode == opClose && (len(payload) == 1 || !validCode(int(binary.BigEndian.Uint16(payload)))):
			return append(seen, "close 1002")
		case opcode == opClose && !utf8.Valid(payload[2:]):
			return append(seen, "close 1007")
		case opcode == opClose:
			return append(seen, fmt.Sprintf("answer 0x88 %q", payload[:2]))
		case opcode <= opBinary && fin && deflated:
			whole, err := inflate.Message(message, fuzzLimit) // which has a fuzz target of its own
			switch {
			case errors.Is(err, inflate.ErrTooLong):
				return append(seen, "close 1009")
			case err != nil, kind == opText && !utf8.Valid(whole):
				return append(seen, "close 1007")
			}
			seen = append(seen, fmt.Sprintf("text %v %q", kind == opText, whole))
			kind, message = 0, nil
		case opcode <= opBinary && fin:
			seen = append(seen, fmt.Sprintf("text %v %q", kind == opText, message))
			kind, message = 0, nil
		}
	}
}

// mayBecomeText decodes character by character.
func mayBecomeText(b []byte, whole bool) bool {
	for len(b) > 0 {
		if r, size := utf8.DecodeRune(b); r == utf8.RuneError && size < 2 {
			return !whole && !utf8.FullRune(b)
		}
		_, size := utf8.DecodeRune(b)
		b = b[size:]
	}
	return true
}

// hello is "Hello", compressed (RFC 7692 section 7.2.3.1).
const hello = "\xf2\x48\xcd\xc9\xc9\x07\x00"

// FuzzFrames compares the reader with expect. Pieces may cut frames anywhere.
func FuzzFrames(f *testing.F) {
	masked := func(first byte, payload string) string {
		return string([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}) + payload
	}
	for _, s := range []string{
		masked(0x81, "text"), masked(0x82, "\xff"), masked(0x01, "\xce") + masked(0x89, "ping") + masked(0x80,
			"\xba"), masked(0x88, "\x03\xe8bye"), masked(0x88, ""), masked(0x88, "\x03"),
		masked(0x01, "κόσμε\xf4") + masked(0x80, "\x90"), masked(0xc1, "x"), masked(0x80, "x"),
		masked(0x83, ""), "\x81\x01x", masked(0x01, "a") + masked(0x81, "b"), masked(0x8b, ""),
		"\x81\xfe\x01\x2c\x00\x00\x00\x00" + strings.Repeat("x", 300), "\x81\xfe\x01\x2d\x00\x00\x00\x00",
		"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00",
		"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x01\x01\x02\x03\x04y", "\x89\xfe\x00\x7e",
		masked(0x01, "") + masked(0x00, "") + masked(0x80, ""), masked(0x81, "\xed\xa0\x80"), masked(0x81,
			"\xf4\x90\x80\x80"), masked(0x88, "\x03\xe8\xff"), masked(0x88, "\x03\xed"),
		masked(0xc1, hello), masked(0xc2, hello) + masked(0x81, "x"), masked(0x41, hello[:3]) + masked(0x89, "p") +
			masked(0x80, hello[3:]), masked(0x41, hello[:3]) + masked(0xc0, hello[3:]), masked(0xc9, ""),
		masked(0xc1, ""), masked(0xc1, "\x00"), masked(0xc1, "\xff"), masked(0xd1, hello), masked(0xc1,
			"\x00\x01\x00\xfe\xff\xce\x00"), masked(0xc2, "\x63\x60\x18\x05\xa3\x60\x14\x8c\x02\x00"),
	} {
		for _, compress := range []bool{false, true} {
			f.Add([]byte(s), uint8(1), compress)
			f.Add([]byte(s), uint8(255), compress)
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, piece uint8, compress bool) {
		idle := 0 // an upper bound; whether it is too many depends on time
		for _, first := range []byte{0x89, 0x8a, 0x00, 0x01, 0x02, 0x41, 0x42} {
			idle += bytes.Count(stream, []byte{first})
		}
		if idle > maxIdle {
			return
		}
		want := expect(stream, compress)
		for _, buffer := range []int{64, 1024} {
			got := play(bytes.Clone(stream), int(piece)+1, buffer, compress)
			if !slices.Equal(got, want) {
				t.Errorf("% x in pieces of %d:\ngot  %q\nwant %q", stream, int(piece)+1, got, want)
			}
		}
	})
}

// FuzzOrigins looks for an origin that is allowed, but neither configured nor of the same host.
func FuzzOrigins(f *testing.F) {
	for _, o := range []string{
		"https://ui.example.com", "https://a.wide.example", "http://site.example:8013", "null",
		"https://ui.example.com@evil", "https://ui.example.com:443", "HTTPS://UI.EXAMPLE.COM",
		"https://x.wide.example:1", "//ui.example.com", "https://[::1]:80", "https://ui.example.com/x",
	} {
		f.Add(o, "site.example:8013", "")
		f.Add(o, "site.example:8013", "https")
	}
	allowed := Origins{"https://ui.example.com", "https://*.wide.example"}
	f.Fuzz(func(t *testing.T, origin, host, scheme string) {
		r := &http.Request{Header: http.Header{"Origin": {origin}}}
		if !allowed.Allow(r, scheme, host) {
			return
		}
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" {
			t.Fatalf("%q is allowed", origin)
		}
		name, named := strings.ToLower(u.Host), strings.EqualFold(u.Scheme, "https")
		withoutPort := func(host string) string { return strings.TrimSuffix(strings.TrimSuffix(host, ":80"), ":443") }
		same := strings.EqualFold(withoutPort(name), withoutPort(strings.ToLower(host)))
		same = same && (u.Scheme == "http" && scheme != "https" || u.Scheme == "https" && scheme != "http")
		named = named && (strings.TrimSuffix(name, ":443") == "ui.example.com" || strings.HasSuffix(name, ".wide.example"))
		if !same && !named {
			t.Errorf("%q is allowed at %q", origin, host)
		}
	})
}
