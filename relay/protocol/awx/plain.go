package awx

import (
	"bytes"

	"github.com/edgerelay/edgerelay/relay"
)

// maxPlainKinds bounds the kinds of group in a plain message, since each is compared with all kinds before.
const maxPlainKinds = 8

// parsePlain parses a message in the form that browsers send: valid, without escapes, and without unknown or repeated
// keys. Any other message is not ok and left to parseJSON, which takes ten times as long.
//
// See docs/decisions/protocol-and-authz.md#why-is-there-a-parser-for-a-browsers-usual-message.
func parsePlain(text []byte) (m message, ok bool) {
	s := scanner{text}
	hasToken := false
	ok = s.elements('{', '}', func() bool {
		key, ok := s.key()
		switch {
		case ok && string(key) == "xrftoken" && !hasToken:
			value, ok := s.str()
			m.csrfToken, hasToken = string(value), true
			return ok
		case ok && string(key) == "groups" && !m.hasGroups:
			m.hasGroups = true
			m.requests, ok = s.groups()
			return ok
		}
		return false
	})
	s.skipSpace()
	return m, ok && len(s.rest) == 0
}

// scanner reads JSON values from the start of a text. Its methods report false at the first byte that is not plain.
type scanner struct{ rest []byte }

// groups reads the groups object.
func (s *scanner) groups() (requests []groupRequest, ok bool) {
	var kinds [maxPlainKinds][]byte
	n := 0
	ok = s.elements('{', '}', func() bool {
		kind, ok := s.key()
		if !ok || n == maxPlainKinds {
			return false
		}
		for _, earlier := range kinds[:n] {
			if bytes.Equal(earlier, kind) {
				return false
			}
		}
		kinds[n] = kind
		n++
		return s.elements('[', ']', func() bool {
			item, ok := s.item()
			r := groupRequest{string(kind), string(item)}
			requests = append(requests, r)
			return ok && relay.ValidGroup(r.group())
		})
	})
	return requests, ok
}

// elements reads an object or a list. It calls read for each element.
func (s *scanner) elements(begin, end byte, read func() bool) bool {
	if !s.consume(begin) {
		return false
	}
	if s.consume(end) {
		return true
	}
	for read() {
		if !s.consume(',') {
			return s.consume(end)
		}
	}
	return false
}

// consume reads white space and then c, if that is the next byte.
func (s *scanner) consume(c byte) bool {
	s.skipSpace()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) skipSpace() {
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\n' || s.rest[0] == '\r' || s.rest[0] == '\t') {
		s.rest = s.rest[1:]
	}
}

// key reads a key and the colon.
func (s *scanner) key() ([]byte, bool) {
	key, ok := s.str()
	return key, ok && s.consume(':')
}

// str reads a string of printable ASCII without escapes.
func (s *scanner) str() ([]byte, bool) {
	if !s.consume('"') {
		return nil, false
	}
	for i, c := range s.rest {
		switch {
		case c == '"':
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			return text, true
		case c < ' ' || c > '~' || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

// item reads a string or an unsigned integer.
func (s *scanner) item() ([]byte, bool) {
	s.skipSpace()
	n := 0
	for n < len(s.rest) && '0' <= s.rest[n] && s.rest[n] <= '9' {
		n++
	}
	if n == 0 {
		return s.str()
	}
	item := s.rest[:n]
	s.rest = s.rest[n:]
	return item, n == 1 || item[0] != '0'
}
