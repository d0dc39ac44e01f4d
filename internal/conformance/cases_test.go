package conformance

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

var cases = slices.Concat(framing, pings, reserved(), opcodes(), fragments, closes(), limits, handshakes, compression(),
	agreements(), utf8Cases())

func pad(n int) string { return strings.Repeat("x", n) }

// unmasked takes the mask off a frame of less than 126 bytes.
func unmasked(first byte, payload string) string {
	return string([]byte{first, byte(len(payload))}) + payload
}

// header is the head of a masked frame that announces n bytes in 64 bits.
func header(first byte, n uint64) string {
	b := []byte{first, 0xff}
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(n>>shift))
	}
	return string(append(b, 1, 2, 3, 4))
}

var framing = []testCase{
	{"1.1.1", "text of 0 bytes", do(send(frame(text, "")), want(text, notJSON), alive)},
	{"1.1.2", "text of 125 bytes", do(send(frame(text, subscription(125))), joined)},
	{"1.1.3", "text of 126 bytes", do(send(frame(text, subscription(126))), joined)},
	{"1.1.4", "text of 127 bytes", do(send(frame(text, subscription(127))), joined)},
	{"1.1.5", "text of 65535 bytes", do(send(frame(text, subscription(65535))), joined)},
	{"1.1.6", "text of 65536 bytes", do(send(frame(text, subscription(65536))), joined)},
	{"1.1.7", "text of 65536 bytes in pieces of 997", do(chop(997, frame(text, subscription(65536))), joined)},
	{"1.1.8", "text of 127 bytes, one by one", do(chop(1, frame(text, subscription(127))), joined)},
	{
		"1.1.9", "two messages in one piece",
		do(send(frame(text, subscription(200)), frame(text, "x")), joined, want(text, notJSON)),
	},
	{
		"1.1.10", "a thousand messages in one piece",
		do(send(strings.Repeat(frame(text, "x"), 1000)), func(s *session) error {
			for range 1000 {
				if err := want(text, notJSON)(s); err != nil {
					return err
				}
			}
			return nil
		}, alive),
	},
	{"1.2.1", "binary of 0 bytes", do(send(frame(binary, "")), want(text, notText), alive)},
	{"1.2.2", "binary of 125 bytes", do(send(frame(binary, pad(125))), want(text, notText))},
	{"1.2.3", "binary of 126 bytes", do(send(frame(binary, pad(126))), want(text, notText))},
	{"1.2.4", "binary of 65535 bytes", do(send(frame(binary, pad(65535))), want(text, notText))},
	{
		"1.2.5", "binary of 65536 bytes that are no text",
		do(send(frame(binary, strings.Repeat("\xff", 65536))), want(text, notText), alive),
	},
	{"1.2.6", "binary of 127 bytes, one by one", do(chop(1, frame(binary, pad(127))), want(text, notText))},
	{
		"1.3.1", "a length in more bytes than it needs is understood",
		do(send(header(text, 0)), want(text, notJSON), alive),
	},
	{"1.4.1", "a mask of zeros", do(send("\x81\x81\x00\x00\x00\x00x"), want(text, notJSON))},
	{
		"1.4.2", "each frame has its own mask",
		do(send("\x81\x84\x01\x02\x03\x04"+"ywpa", "\x81\x82\xff\x00\xff\x00"+"\x84{"), want(text, notJSON),
			want(text, notJSON)),
	},
	{"1.4.3", "text without a mask", do(send(unmasked(text, "x")), wantClose(1002))},
	{"1.4.4", "empty text without a mask", do(send(unmasked(text, "")), wantClose(1002))},
	{"1.4.5", "a ping without a mask", do(send(unmasked(ping, "x")), wantClose(1002))},
	{"1.4.6", "a close without a mask", do(send(unmasked(closing, "\x03\xe8")), wantClose(1002))},
	{"1.4.7", "a fragment without a mask", do(send(frame(textBegin, "x"), unmasked(last, "x")), wantClose(1002))},
	{
		"1.4.8", "without a mask behind a good message",
		do(send(frame(text, "x"), unmasked(text, "x")), want(text, notJSON), wantClose(1002)),
	},
	{"1.5.1", "the server sends 2 bytes", do(event(2))},
	{"1.5.2", "the server sends 125 bytes", do(event(125))},
	{"1.5.3", "the server sends 126 bytes", do(event(126))},
	{"1.5.4", "the server sends 65535 bytes", do(event(65535))},
	{"1.5.5", "the server sends 65536 bytes", do(event(65536))},
	{"1.5.6", "the server sends 3 MiB", do(event(3 << 20))},
}

var pings = []testCase{
	{"2.1", "empty", do(send(frame(ping, "")), want(pong, ""))},
	{"2.2", "text", do(send(frame(ping, "Hello, world!")), want(pong, "Hello, world!"))},
	{"2.3", "bytes that are no text", do(send(frame(ping, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff")),
		want(pong, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"))},
	{"2.4", "125 bytes", do(send(frame(ping, pad(125))), want(pong, pad(125)))},
	{"2.5", "126 bytes", do(send(frame(ping, pad(126))), wantClose(1002))},
	{"2.6", "125 bytes, one by one", do(chop(1, frame(ping, pad(125))), want(pong, pad(125)))},
	{"2.7", "an empty pong that nobody asked for", do(send(frame(pong, "")), alive)},
	{"2.8", "a pong that nobody asked for", do(send(frame(pong, "unasked")), alive)},
	{"2.9", "a pong and then a ping", do(send(frame(pong, "unasked"), frame(ping, "p")), want(pong, "p"))},
	{"2.10", "ten pings", do(send(frame(ping, "0"), frame(ping, "1"), frame(ping, "2"), frame(ping, "3"),
		frame(ping, "4"),
		frame(ping, "5"), frame(ping, "6"), frame(ping, "7"), frame(ping, "8"), frame(ping, "9")), tenPongs)},
	{
		"2.11", "ten pings, byte by byte",
		do(chop(1, frame(ping, "0"), frame(ping, "1"), frame(ping, "2"), frame(ping, "3"), frame(ping, "4"),
			frame(ping, "5"), frame(ping, "6"), frame(ping, "7"), frame(ping, "8"), frame(ping, "9")), tenPongs),
	},
	{"2.12", "a pong of 126 bytes", do(send(frame(pong, pad(126))), wantClose(1002))},
	{"2.13", "the server pings, too", do(func(s *session) error {
		f, err := s.Frame()
		if err != nil || f.First != ping || len(f.Payload) > 125 {
			return fmt.Errorf("%#x %q, %v; want a ping", f.First, f.Payload, err)
		}
		return s.Write(frame(pong, string(f.Payload)))
	}, alive)},
	{"2.14", "a ping between two messages", do(send(frame(text, "x"), frame(ping, "p"), frame(text, subscription(99))),
		want(text, notJSON), want(pong, "p"), joined)},
	{"2.15", "a flood", do(func(s *session) error {
		_ = s.Write(strings.Repeat(frame(ping, "p"), 5000)) // the server does not read them all
		for {
			f, err := s.next()
			switch {
			case err != nil:
				return err
			case f.First == pong:
			case f.First == closing && string(f.Payload[:2]) == "\x03\xf0": // 1008
				return nil
			default:
				return fmt.Errorf("%#x %q", f.First, f.Payload)
			}
		}
	})},
}

func tenPongs(s *session) error {
	for i := range 10 {
		if err := want(pong, fmt.Sprint(i))(s); err != nil {
			return err
		}
	}
	return nil
}

// reserved goes through all values of the reserved bits but zero, in all kinds of frame.
func reserved() (list []testCase) {
	n := 0
	add := func(name string, steps ...step) {
		n++
		list = append(list, testCase{fmt.Sprint("3.", n), name, steps})
	}
	for rsv := byte(1); rsv < 8; rsv++ {
		bits := rsv << 4
		add(fmt.Sprint("text with reserved bits ", rsv), send(frame(text|bits, "x")), wantClose(1002))
		add(fmt.Sprint("behind a good message, reserved bits ", rsv),
			send(frame(text, "x"), frame(text|bits, "x"), frame(text, "x")), want(text, notJSON), wantClose(1002))
		add(fmt.Sprint("byte by byte, reserved bits ", rsv), chop(1, frame(text, "x"), frame(text|bits, "x")),
			want(text, notJSON), wantClose(1002))
		add(fmt.Sprint("a fragment with reserved bits ", rsv), send(frame(textBegin, "x"), frame(last|bits, "x")),
			wantClose(1002))
		add(fmt.Sprint("binary with reserved bits ", rsv), send(frame(binary|bits, "x")), wantClose(1002))
		add(fmt.Sprint("a ping with reserved bits ", rsv), send(frame(ping|bits, "x")), wantClose(1002))
		add(fmt.Sprint("a close with reserved bits ", rsv), send(frame(closing|bits, "\x03\xe8")), wantClose(1002))
	}
	return list
}

// opcodes goes through all that RFC 6455 leaves undefined.
func opcodes() (list []testCase) {
	for part, undefined := range [][]byte{{3, 4, 5, 6, 7}, {11, 12, 13, 14, 15}} {
		n := 0
		add := func(name string, steps ...step) {
			n++
			list = append(list, testCase{fmt.Sprintf("4.%d.%d", part+1, n), name, steps})
		}
		for _, code := range undefined {
			add(fmt.Sprint("opcode ", code, ", empty"), send(frame(0x80|code, "")), wantClose(1002))
			add(fmt.Sprint("opcode ", code, " with a payload"), send(frame(0x80|code, "payload")), wantClose(1002))
			add(fmt.Sprint("opcode ", code, " behind a good message"),
				send(frame(text, "x"), frame(0x80|code, "payload"), frame(ping, "")), want(text, notJSON),
				wantClose(1002))
			add(fmt.Sprint("opcode ", code, " among fragments"),
				send(frame(textBegin, "x"), frame(0x80|code, ""), frame(last, "x")), wantClose(1002))
			add(fmt.Sprint("opcode ", code, ", byte by byte"), chop(1, frame(0x80|code, "payload")), wantClose(1002))
		}
	}
	return list
}

var fragments = []testCase{
	{"5.1", "a ping in fragments", do(send(frame(0x09, "p"), frame(last, "q")), wantClose(1002))},
	{"5.2", "a pong in fragments", do(send(frame(0x0a, "p"), frame(last, "q")), wantClose(1002))},
	{"5.3", "two fragments", do(send(frame(textBegin, subscription(200)[:77]), frame(last, subscription(200)[77:])),
		joined)},
	{
		"5.4", "two fragments, each in a piece of its own",
		do(send(frame(textBegin, subscription(200)[:77])), send(frame(last, subscription(200)[77:])), joined),
	},
	{
		"5.5", "two fragments, byte by byte",
		do(chop(1, frame(textBegin, subscription(200)[:77]), frame(last, subscription(200)[77:])), joined),
	},
	{
		"5.6", "a ping between fragments is answered at once",
		do(send(frame(textBegin, subscription(200)[:77]), frame(ping, "p")), want(pong, "p"),
			send(frame(last, subscription(200)[77:])), joined),
	},
	{
		"5.7", "a ping between fragments, byte by byte",
		do(chop(1, frame(textBegin, subscription(200)[:77]), frame(ping, "p"), frame(last, subscription(200)[77:])),
			want(pong, "p"), joined),
	},
	{"5.8", "a pong between fragments", do(send(frame(textBegin, subscription(200)[:77]), frame(pong, "p"),
		frame(last, subscription(200)[77:])), joined)},
	{"5.9", "the end of nothing", do(send(frame(last, "x"), frame(text, "y")), wantClose(1002))},
	{
		"5.10", "the end of nothing behind a good message",
		do(send(frame(text, "x"), frame(last, "y")), want(text, notJSON), wantClose(1002)),
	},
	{"5.11", "the middle of nothing", do(send(frame(more, "x"), frame(text, "y")), wantClose(1002))},
	{"5.12", "the middle of nothing, byte by byte", do(chop(1, frame(more, "x"), frame(text, "y")), wantClose(1002))},
	{"5.13", "an empty end of nothing", do(send(frame(last, "")), wantClose(1002))},
	{"5.14", "text inside a text", do(send(frame(textBegin, "x"), frame(text, "y")), wantClose(1002))},
	{
		"5.15", "the beginning of a text inside a text",
		do(send(frame(textBegin, "x"), frame(textBegin, "y"), frame(last, "z")), wantClose(1002)),
	},
	{"5.16", "binary inside a text", do(send(frame(textBegin, "x"), frame(binary, "y")), wantClose(1002))},
	{"5.17", "text inside a binary", do(send(frame(binaryBegin, "x"), frame(text, "y")), wantClose(1002))},
	{
		"5.18", "a message, and the end of another",
		do(send(frame(textBegin, "x"), frame(last, "y"), frame(last, "z")), want(text, notJSON), wantClose(1002)),
	},
	{"5.19", "five fragments with pings between", do(
		send(frame(textBegin, subscription(200)[:40]), frame(more, subscription(200)[40:60]), frame(ping, "1"),
			frame(more, subscription(200)[60:61])), want(pong, "1"),
		send(frame(more, subscription(200)[61:150]), frame(ping, "2"), frame(last, subscription(200)[150:])),
		want(pong, "2"), joined)},
	{"5.20", "two hundred fragments of one byte", do(send(inFragments(text, subscription(200), 1)), joined, alive)},
	{"5.21", "empty fragments", do(send(frame(textBegin, ""), frame(more, ""), frame(more, subscription(200)),
		frame(more, ""), frame(last, "")), joined)},
	{"5.22", "binary in fragments", do(send(inFragments(binary, "\xff\xfe\xfd", 1)), want(text, notText), alive)},
	{
		"5.23", "two messages in fragments",
		do(send(inFragments(text, subscription(200), 50), inFragments(text, "x", 1)), joined, want(text, notJSON)),
	},
	{"5.24", "64 KiB in fragments of 256 bytes", do(send(inFragments(text, subscription(65536), 256)), joined)},
	{
		"5.25", "64 KiB in fragments of 4 KiB and pieces of 997 bytes",
		do(chop(997, inFragments(text, subscription(65536), 4096)), joined),
	},
}

// inFragments is a message in fragments of n bytes.
func inFragments(first byte, payload string, n int) string {
	first &= 0x0f
	var b strings.Builder
	for len(payload) > n {
		b.WriteString(frame(first, payload[:n]))
		first, payload = more, payload[n:]
	}
	b.WriteString(frame(0x80|first, payload))
	return b.String()
}

// code is a close frame's payload.
func code(n int, reason string) string { return string([]byte{byte(n >> 8), byte(n)}) + reason }

func closes() []testCase {
	list := []testCase{
		{
			"7.1.1", "a message, then close",
			do(send(frame(text, "x")), want(text, notJSON), send(frame(closing, code(1000, ""))), wantClose(1000)),
		},
		{"7.1.2", "close twice", do(send(frame(closing, code(1000, "")), frame(closing, code(1001, ""))),
			wantClose(1000))},
		{
			"7.1.3", "a ping behind close is not answered",
			do(send(frame(closing, code(1000, "")), frame(ping, "p")), wantClose(1000)),
		},
		{
			"7.1.4", "a message behind close is not answered",
			do(send(frame(closing, code(1000, "")), frame(text, "x")), wantClose(1000)),
		},
		{
			"7.1.5", "close among fragments",
			do(send(frame(textBegin, "x"), frame(closing, code(1000, "")), frame(last, "y")), wantClose(1000)),
		},
		{"7.1.6", "junk behind close", do(send(frame(closing, code(1000, "")), "\xff\xff\xff\xff"), wantClose(1000))},
		{
			"7.1.7", "the server ends the connection, not the client",
			do(send(frame(closing, code(1000, ""))), want(closing, code(1000, "")), wantEnd),
		},
		{"7.3.1", "without a code", do(send(frame(closing, "")), wantClose(0))},
		{"7.3.2", "half a code", do(send(frame(closing, "\x03")), wantClose(1002))},
		{"7.3.3", "a code", do(send(frame(closing, code(1000, ""))), wantClose(1000))},
		{"7.3.4", "a code and a reason", do(send(frame(closing, code(1000, "bye"))), wantClose(1000))},
		{"7.3.5", "a reason of 123 bytes", do(send(frame(closing, code(1000, pad(123)))), wantClose(1000))},
		{"7.3.6", "a reason of 124 bytes", do(send(frame(closing, code(1000, pad(124)))), wantClose(1002))},
		{"7.3.7", "in fragments", do(send(frame(0x08, code(1000, "")), frame(last, "")), wantClose(1002))},
		{"7.3.8", "byte by byte", do(chop(1, frame(closing, code(1000, "bye"))), wantClose(1000))},
		{
			"7.5.1", "a reason that is not UTF-8",
			do(send(frame(closing, code(1000, "\xce\xba\xed\xa0\x80"))), wantClose(1007)),
		},
		{
			"7.5.2", "a reason that ends inside a character",
			do(send(frame(closing, code(1000, "\xce"))), wantClose(1007)),
		},
		{"7.6.1", "the client stops sending without close", do(halfClose, wantEnd)},
		{"7.6.2", "the client stops sending inside a frame", do(send(frame(text, "hello")[:8]), halfClose, wantEnd)},
		{
			"7.6.3", "the client stops sending behind close",
			do(send(frame(closing, code(1001, ""))), halfClose, want(closing, code(1001, "")), wantEnd),
		},
		{
			"7.6.4", "the client stops sending behind a message",
			do(send(frame(text, "x")), want(text, notJSON), halfClose, wantEnd),
		},
	}
	for i, n := range []int{
		1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
		4999,
	} {
		list = append(list, testCase{
			fmt.Sprint("7.7.", i+1), fmt.Sprint("code ", n),
			do(send(frame(closing, code(n, "why"))), wantClose(n)),
		})
	}
	for i, n := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		list = append(list, testCase{
			fmt.Sprint("7.9.", i+1), fmt.Sprint("code ", n, ", which cannot be"),
			do(send(frame(closing, code(n, "why"))), wantClose(1002)),
		})
	}
	return list
}

// halfClose ends the client's direction, in TLS by a close_notify.
func halfClose(s *session) error {
	return s.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

var _ interface{ CloseWrite() error } = (*net.TCPConn)(nil)

var limits = []testCase{
	{"9.1", "the longest message", do(send(frame(text, subscription(limit))), joined)},
	{"9.2", "the longest message in fragments", do(send(inFragments(text, subscription(limit), 1000)), joined)},
	{"9.3", "one byte more", do(send(frame(text, pad(limit+1))), wantClose(1009))},
	{"9.4", "one byte more, in fragments", do(send(inFragments(text, pad(limit+1), 1000)), wantClose(1009))},
	{"9.5", "one byte more, only announced", do(send(header(text, limit+1)), wantClose(1009))},
	{"9.6", "2^63 - 1 bytes announced", do(send(header(text, 1<<63-1)), wantClose(1009))},
	{"9.7", "2^63 bytes announced", do(send(header(text, 1<<63)), wantClose(1002))},
	{"9.8", "2^64 - 1 bytes announced", do(send(header(binary, 1<<64-1)), wantClose(1002))},
	{
		"9.9", "a second fragment of 2^63 - 1 bytes announced",
		do(send(frame(textBegin, "x"), header(last, 1<<63-1)), wantClose(1009)),
	},
	{"9.10", "a ping of 2^32 bytes announced", do(send(header(ping, 1<<32)), wantClose(1002))},
	{"9.11", "the limit holds for each message, not for their sum", do(
		send(frame(text, pad(limit))), want(text, notJSON), send(frame(text, pad(limit))), want(text, notJSON), alive)},
}
