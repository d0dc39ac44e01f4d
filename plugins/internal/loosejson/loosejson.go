// Package loosejson splits JSON texts that may contain the numbers NaN, Infinity and -Infinity, which Python's json
// module writes and RFC 8259 does not allow. Values stay text: nothing is decoded except the names of members.
package loosejson

import (
	"bytes"
	"encoding/json"
)

// maxDepth bounds the nesting of a text, as encoding/json does.
const maxDepth = 10_000

// Member is a member of an object.
type Member struct {
	Name  string
	Value []byte // the text of the value, without white space around it
}

// Members returns the members of an object in their order, or false if the text is not an object.
func Members(text []byte) (list []Member, ok bool) {
	ok = each(text, '{', func(name, value []byte) bool {
		var m Member
		if json.Unmarshal(name, &m.Name) != nil {
			return false
		}
		m.Value = value
		list = append(list, m)
		return true
	})
	return list, ok
}

// Elements returns the texts of an array's elements, or false if the text is not an array.
func Elements(text []byte) (list [][]byte, ok bool) {
	ok = each(text, '[', func(_, value []byte) bool {
		list = append(list, value)
		return true
	})
	return list, ok
}

// each calls fn with each member or element of the object or array that text is.
func each(text []byte, open byte, fn func(name, value []byte) bool) bool {
	s := scanner{text: text}
	s.skipSpace()
	if s.at == len(text) || text[s.at] != open {
		return false
	}
	if !s.list(open, 1, fn) {
		return false
	}
	s.skipSpace()
	return s.at == len(text)
}

// CutObject splits a text that begins with an object into the object and the rest, without white space around them. It
// returns false for any other text.
func CutObject(text []byte) (object, rest []byte, ok bool) {
	s := scanner{text: text}
	s.skipSpace()
	start := s.at
	if s.at == len(text) || text[s.at] != '{' || !s.value(0) {
		return nil, nil, false
	}
	return text[start:s.at], bytes.TrimSpace(text[s.at:]), true
}

// Valid reports whether text is a value.
func Valid(text []byte) bool {
	s := scanner{text: text}
	if !s.value(0) {
		return false
	}
	s.skipSpace()
	return s.at == len(text)
}

// Same reports whether two texts are equal except for white space between tokens. Texts that are not values are
// compared byte by byte.
func Same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	return Valid(a) && Valid(b) && bytes.Equal(compact(a), compact(b))
}

// compact returns a value without the white space between tokens.
func compact(text []byte) []byte {
	out := make([]byte, 0, len(text))
	inString := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case inString && c == '\\':
			out = append(out, c)
			i++ // the text is valid, so a character follows
			c = text[i]
		case c == '"':
			inString = !inString
		case !inString && isSpace(c):
			continue
		}
		out = append(out, c)
	}
	return out
}

// scanner reads a text from the position at on.
type scanner struct {
	text []byte
	at   int
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (s *scanner) skipSpace() {
	for s.at < len(s.text) && isSpace(s.text[s.at]) {
		s.at++
	}
}

// accept skips c after white space, and reports whether it was there.
func (s *scanner) accept(c byte) bool {
	s.skipSpace()
	if s.at == len(s.text) || s.text[s.at] != c {
		return false
	}
	s.at++
	return true
}

// value skips white space and a value.
func (s *scanner) value(depth int) bool {
	s.skipSpace()
	if s.at == len(s.text) || depth >= maxDepth {
		return false
	}
	switch c := s.text[s.at]; c {
	case '{', '[':
		return s.list(c, depth+1, nil)
	case '"':
		return s.string()
	}
	return s.literal()
}

// list skips the object or array that begins here, and calls fn, if not nil, with each member or element.
func (s *scanner) list(open byte, depth int, fn func(name, value []byte) bool) bool {
	s.at++
	end := open + 2 // '}' and ']' follow '{' and '[' at this distance
	if s.accept(end) {
		return true
	}
	for {
		var name []byte
		s.skipSpace()
		if open == '{' {
			start := s.at
			if s.at == len(s.text) || s.text[s.at] != '"' || !s.string() {
				return false
			}
			name = s.text[start:s.at]
			if !s.accept(':') {
				return false
			}
			s.skipSpace()
		}
		start := s.at
		if !s.value(depth) || fn != nil && !fn(name, s.text[start:s.at]) {
			return false
		}
		if s.accept(end) {
			return true
		}
		if !s.accept(',') {
			return false
		}
	}
}

// string skips a string. encoding/json checks the escapes.
func (s *scanner) string() bool {
	start := s.at
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '\\':
			s.at++
		case c < ' ':
			return false
		case c == '"':
			s.at++
			inner := s.text[start:s.at]
			return bytes.IndexByte(inner, '\\') < 0 || json.Valid(inner)
		}
	}
	return false
}

// literal skips a number or a word.
func (s *scanner) literal() bool {
	start := s.at
	for s.at < len(s.text) && !isSpace(s.text[s.at]) && bytes.IndexByte([]byte(`,:{}[]"`), s.text[s.at]) < 0 {
		s.at++
	}
	switch word := s.text[start:s.at]; string(word) {
	case "NaN", "Infinity", "-Infinity":
		return true
	default:
		return json.Valid(word)
	}
}
