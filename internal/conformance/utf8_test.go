package conformance

import (
	"fmt"
	"strings"
)

// valid are texts at the boundaries of UTF-8 (RFC 3629).
var valid = []string{
	"\x00", "\x7f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U000fffff",
	"\U00100000", "\U0010ffff",
	"\ufeff", "\ufffd", "\ufffe", "\U0001fffe", "\U0010fffe", // no characters, and valid nevertheless
	"Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "漢字かな交じり文", "🔑🗝",
}

// invalid are texts that are not UTF-8.
var invalid = []string{
	"\x80", "\xbf", "\x80\xbf\x80", // continuations of nothing
	"\xc2 ", "\xe0\xa0 ", "\xf0\x90\x80 ", "\xc2\xc2\x80", "\xe1\x80\xe1\x80\x80", // not continued
	"\xc2", "\xdf", "\xe0", "\xe0\xa0", "\xef\xbf", "\xf0", "\xf0\x90", "\xf0\x90\x80", "\xf4\x8f\xbf", // cut off
	"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf", // a slash, too long
	"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xc0\x80", "\xe0\x80\x80", // the greatest that are too long, and NUL
	"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80", // surrogates
	"\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf7\xbf\xbf\xbf", "\xf8\x88\x80\x80\x80", "\xfb\xbf\xbf\xbf\xbf", "\xfc\x84\x80\x80\x80\x80", "\xfd\xbf\xbf\xbf\xbf\xbf", // beyond U+10FFFF
	"\xfe", "\xff", "\xfe\xfe\xff\xff", // never
	"κόσμε\xed\xa0\x80edited",
}

// utf8Cases sends texts whole, byte by byte, and with each byte in a fragment of its own.
func utf8Cases() []testCase {
	list := []testCase{
		{"6.1.1", "empty", do(send(frame(text, "")), want(text, notJSON))},
		{
			"6.1.2", "three empty fragments",
			do(send(frame(textBegin, ""), frame(more, ""), frame(last, "")), want(text, notJSON)),
		},
		{
			"6.1.3", "text between empty fragments",
			do(send(frame(textBegin, ""), frame(more, subscription(99)), frame(last, "")), joined),
		},
		{"6.2.1", "characters arrive as they were sent", do(send(frame(text, named("κόσμε"))), told("echo-κόσμε:"))},
		{
			"6.2.2", "a character in two fragments",
			do(send(frame(textBegin, named("κόσμε")[:23]), frame(last, named("κόσμε")[23:])), told("echo-κόσμε:")),
		},
		{"6.2.3", "a ping inside a character", do(send(frame(textBegin, "\xce"), frame(ping, "p")), want(pong, "p"),
			send(frame(last, "\xba")), want(text, notJSON), alive)},
		{"6.2.4", "binary is not looked at", do(send(frame(binary, "\xff\xfe")), want(text, notText), alive)},
		{
			"6.4.1", "wrong in the first fragment, seen before the second",
			do(send(frame(textBegin, "κόσμε\xf4\x90")), wantClose(1007)),
		},
		{
			"6.4.2", "wrong at a fragment's border",
			do(send(frame(textBegin, "κόσμε\xf4"), frame(more, "\x90")), wantClose(1007)),
		},
		{
			"6.4.3", "wrong inside a frame, seen before its end",
			do(send(header(text, 1000), mask("κόσμε\xf4\x90")), wantClose(1007)),
		},
		{
			"6.4.4", "wrong inside a frame, byte by byte",
			do(chop(1, header(text, 1000), mask("κόσμε\xf4\x90")), wantClose(1007)),
		},
		{
			"6.4.5", "a surrogate's first half, seen before the second",
			do(send(frame(textBegin, "\xed\xa0")), wantClose(1007)),
		},
		{
			"6.4.6", "the beginning of a character is not wrong yet",
			do(send(frame(textBegin, "\xf0\x90\x80")), send(frame(ping, "p")), want(pong, "p"),
				send(frame(last, "\x80")), want(text, notJSON)),
		},
		{
			"6.4.7", "an end inside a character",
			do(send(frame(textBegin, "\xf0\x90"), frame(last, "")), wantClose(1007)),
		},
		{
			"6.4.8", "64 KiB of characters of three bytes in fragments of 1000",
			do(send(inFragments(text, strings.Repeat("字", 21845), 1000)), want(text, notJSON), alive),
		},
		{
			"6.4.9", "64 KiB, the last byte wrong",
			do(send(inFragments(text, strings.Repeat("字", 21845)+"\x80", 1000)), wantClose(1007)),
		},
	}
	for part, set := range []struct {
		texts   []string
		outcome step
	}{{valid, want(text, notJSON)}, {invalid, wantClose(1007)}} {
		n := 0
		for _, s := range set.texts {
			for _, way := range []struct {
				how   string
				bytes step
			}{
				{"whole", send(frame(text, s))},
				{"byte by byte", chop(1, frame(text, s))},
				{"in fragments", send(inFragments(text, s, 1))},
				{"among others", send(frame(text, "before "+s+" behind"))},
			} {
				n++
				list = append(list, testCase{
					fmt.Sprintf("6.%d.%d", 5+part, n), fmt.Sprintf("%+q %s", s, way.how),
					do(way.bytes, set.outcome),
				})
			}
		}
	}
	return list
}

// named subscribes to a group whose name is refused, and repeated in the refusal.
func named(item string) string { return `{"groups": {"echo": ["` + item + `"]}, "xrftoken": "t"}` }

// mask puts the mask of header over a payload.
func mask(payload string) string {
	b := []byte(payload)
	for i := range b {
		b[i] ^= byte(1 + i%4)
	}
	return string(b)
}
