package channels

import (
	"bytes"
	"encoding/json"
)

// name is the name of a member, with its JSON form as Python's json.dumps writes it.
type name struct {
	text   string
	quoted string
}

// span is the place of a value in a text. The zero span stands for a missing member.
type span struct{ from, to int }

func (s span) found() bool { return s.to > 0 }

func (s span) of(text []byte) []byte { return text[s.from:s.to] }

// findMembers finds members of the JSON object in text and stores the places of their values in spans, which has the
// length of names. It returns false if text is not an object. The scan ends with the last of the members, so that the
// rest of the text is not checked.
func findMembers(text []byte, names []name, spans []span) bool {
	clear(spans)
	at := skipSpace(text, 0)
	if at >= len(text) || text[at] != '{' {
		return false
	}
	missing := len(names)
	for at = skipSpace(text, at+1); at < len(text) && text[at] == '"'; at = skipSpace(text, at+1) {
		end := skipString(text, at)
		if end < 0 {
			return false
		}
		key := text[at:end]
		if at = skipSpace(text, end); at >= len(text) || text[at] != ':' {
			return false
		}
		from := skipSpace(text, at+1)
		to := skipValue(text, from)
		if to < 0 {
			return false
		}
		if i := indexOf(names, key); i >= 0 && !spans[i].found() {
			if missing -= place(names, spans, i, span{from, to}); missing == 0 {
				return true
			}
		}
		if at = skipSpace(text, to); at >= len(text) || text[at] != ',' {
			return at < len(text) && text[at] == '}'
		}
	}
	return at < len(text) && text[at] == '}'
}

// place stores the place of a member under its name, which may stand several times from index i on. It returns how
// often.
func place(names []name, spans []span, i int, s span) (times int) {
	for j := i; j < len(names); j++ {
		if names[j].text == names[i].text {
			spans[j] = s
			times++
		}
	}
	return times
}

// indexOf returns the index of the name with a quoted key, -1 if there is none.
func indexOf(names []name, key []byte) int {
	for i := range names {
		if string(key) == names[i].quoted {
			return i
		}
	}
	if bytes.IndexByte(key, '\\') < 0 && isASCII(key) {
		return -1
	}
	var text string // the key has another form than that of json.dumps
	if json.Unmarshal(key, &text) != nil {
		return -1
	}
	for i := range names {
		if text == names[i].text {
			return i
		}
	}
	return -1
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

func skipSpace(b []byte, at int) int {
	for at < len(b) && (b[at] == ' ' || b[at] == '\n' || b[at] == '\t' || b[at] == '\r') {
		at++
	}
	return at
}

// skipString returns the end of the string that begins at the quote b[at], -1 if it has none.
func skipString(b []byte, at int) int {
	for at++; ; at++ {
		n := bytes.IndexByte(b[at:], '"')
		if n < 0 {
			return -1
		}
		at += n
		escapes := 0
		for b[at-1-escapes] == '\\' { // ends at the opening quote at the latest
			escapes++
		}
		if escapes%2 == 0 {
			return at + 1
		}
	}
}

// skipValue returns the end of the value that begins at b[at], -1 if there is none.
func skipValue(b []byte, at int) int {
	if at >= len(b) {
		return -1
	}
	switch b[at] {
	case '"':
		return skipString(b, at)
	case '{', '[':
		return skipNested(b, at)
	}
	from := at
	for at < len(b) {
		switch b[at] {
		case ',', '}', ']', ' ', '\n', '\t', '\r', ':', '"', '{', '[':
			if at == from {
				return -1
			}
			return at
		}
		at++
	}
	return at
}

// skipNested is skipValue for objects and lists.
func skipNested(b []byte, at int) int {
	for depth := 0; at < len(b); at++ {
		switch b[at] {
		case '"':
			end := skipString(b, at)
			if end < 0 {
				return -1
			}
			at = end - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return at + 1
			}
		}
	}
	return -1
}
