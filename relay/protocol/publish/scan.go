package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is the greatest number of nested objects and lists of a body.
const maxDepth = 64

// scanner walks through one JSON text and is stricter than encoding/json: it rejects what one JSON parser reads
// differently from another, and what the layers cannot carry. These are repeated members, half surrogate pairs,
// integers beyond 64 bits and numbers beyond float64.
type scanner struct {
	b     []byte
	pos   int
	depth int
}

// locatedError is an error about one value of the body.
type locatedError struct {
	// path are the names and indexes that lead to the value, the innermost first.
	path []string
	text string
}

func (e *locatedError) Error() string { return e.text }

// pointer returns the place of the value as a JSON pointer (RFC 6901).
func (e *locatedError) pointer() string {
	var p strings.Builder
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	for _, name := range slices.Backward(e.path) {
		p.WriteString("/" + escape.Replace(name))
	}
	return p.String()
}

// within adds the name of an outer value to the path of an error.
func within(name string, err error) error {
	var located *locatedError
	if errors.As(err, &located) {
		located.path = append(located.path, name)
	}
	return err
}

// faultf returns an error about the current value.
func faultf(format string, args ...any) error {
	return &locatedError{text: fmt.Sprintf(format, args...)}
}

// newScanner checks the encoding of a body. The body must not change while the scanner, or text from it, is in use.
func newScanner(body []byte) (*scanner, error) {
	if !utf8.Valid(body) {
		return nil, faultf("the body is not UTF-8")
	}
	return &scanner{b: body}, nil
}

// peek returns the first byte of the next value, 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.b) {
		switch c := s.b[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// end returns an error if anything follows.
func (s *scanner) end() error {
	if c := s.peek(); c != 0 || s.pos < len(s.b) {
		return faultf("unexpected %q after the JSON value, at byte %d", s.b[s.pos], s.pos)
	}
	return nil
}

// expect takes one byte.
func (s *scanner) expect(c byte) error {
	if s.peek() != c || s.pos == len(s.b) {
		return s.unexpected(fmt.Sprintf("expected %q", c))
	}
	s.pos++
	return nil
}

func (s *scanner) unexpected(wanted string) error {
	if s.pos >= len(s.b) {
		return faultf("invalid JSON: the text ends at byte %d; %s", s.pos, wanted)
	}
	r, _ := utf8.DecodeRune(s.b[s.pos:])
	return faultf("invalid JSON: %q at byte %d; %s", r, s.pos, wanted)
}

// enter and leave count nested values.
func (s *scanner) enter() error {
	if s.depth++; s.depth > maxDepth {
		return faultf("more than %d nested objects and lists; flatten the value", maxDepth)
	}
	return nil
}

func (s *scanner) leave() { s.depth-- }

// object calls read for each member of an object. read must take the member's value.
func (s *scanner) object(read func(name string) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	var seen nameSet
	for {
		if s.peek() != '"' {
			return s.unexpected("expected the name of a member")
		}
		name, err := s.text()
		if err != nil {
			return err
		}
		if !seen.add(name) {
			return within(name, faultf("the member is given twice"))
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := read(name); err != nil {
			return within(name, err)
		}
		more, err := s.more('}')
		if err != nil || !more {
			return err
		}
	}
}

// list calls read for each element of a list. read must take the element.
func (s *scanner) list(read func(i int) error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for i := 0; ; i++ {
		if err := read(i); err != nil {
			return within(strconv.Itoa(i), err)
		}
		more, err := s.more(']')
		if err != nil || !more {
			return err
		}
	}
}

// more takes the byte after a member or an element, and reports whether another one follows.
func (s *scanner) more(end byte) (bool, error) {
	switch s.peek() {
	case ',':
		s.pos++
		return true, nil
	case end:
		s.pos++
		return false, nil
	}
	return false, s.unexpected(fmt.Sprintf("expected ',' or %q", end))
}

// skip takes a whole value and checks it.
func (s *scanner) skip() error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(func(string) error { return s.skip() })
	case c == '[':
		return s.list(func(int) error { return s.skip() })
	case c == '"':
		_, err := s.quoted()
		return err
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if strings.HasPrefix(string(s.b[s.pos:min(len(s.b), s.pos+len(word))]), word) {
			s.pos += len(word)
			return nil
		}
	}
	return s.unexpected("expected a value")
}

// raw takes a value and returns it as it is written.
func (s *scanner) raw() ([]byte, error) {
	s.peek()
	from := s.pos
	err := s.skip()
	return s.b[from:s.pos], err
}

// text takes a string.
func (s *scanner) text() (string, error) {
	if s.peek() != '"' {
		return "", faultf("expected a string")
	}
	from := s.pos
	escaped, err := s.quoted()
	if err != nil {
		return "", err
	}
	if !escaped {
		return string(s.b[from+1 : s.pos-1]), nil
	}
	var text string
	err = json.Unmarshal(s.b[from:s.pos], &text)
	return text, err
}

// quoted takes a string and reports whether it has escapes.
func (s *scanner) quoted() (escaped bool, err error) {
	for s.pos++; s.pos < len(s.b); s.pos++ {
		switch c := s.b[s.pos]; {
		case c == '"':
			s.pos++
			return escaped, nil
		case c < ' ':
			return false, s.unexpected("escape control characters in strings")
		case c == '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return false, err
			}
		}
	}
	return false, s.unexpected("close the string")
}

// escape takes an escape up to its last byte.
func (s *scanner) escape() error {
	s.pos++
	if s.pos < len(s.b) && strings.IndexByte(`"\/bfnrt`, s.b[s.pos]) >= 0 {
		return nil
	}
	unit, ok := s.unit()
	if !ok {
		return s.unexpected("expected an escape of JSON")
	}
	if unit < 0xd800 || unit > 0xdfff {
		return nil
	}
	if unit < 0xdc00 && s.pos+2 < len(s.b) && s.b[s.pos+1] == '\\' {
		s.pos += 2
		if second, ok := s.unit(); ok && 0xdc00 <= second && second <= 0xdfff {
			return nil
		}
	}
	return faultf("\\u%04x is half of a surrogate pair, and no character", unit)
}

// unit takes the u of a Unicode escape and its four digits, up to the last byte.
func (s *scanner) unit() (uint16, bool) {
	if s.pos+4 >= len(s.b) || s.b[s.pos] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s.b[s.pos+1:s.pos+5]), 16, 16)
	if err != nil {
		return 0, false
	}
	s.pos += 4
	return uint16(n), true
}

// number takes a number that an int64, a uint64 or a float64 can hold.
func (s *scanner) number() error {
	from := s.pos
	for s.pos < len(s.b) && strings.IndexByte("+-.0123456789eE", s.b[s.pos]) >= 0 {
		s.pos++
	}
	text := string(s.b[from:s.pos])
	if !json.Valid(s.b[from:s.pos]) {
		s.pos = from
		return s.unexpected("expected a number of JSON")
	}
	if strings.ContainsAny(text, ".eE") {
		if f, err := strconv.ParseFloat(text, 64); err != nil || math.IsInf(f, 0) {
			return faultf("the number does not fit into 64 bits; send it as a string")
		}
		return nil
	}
	if _, err := strconv.ParseInt(text, 10, 64); err == nil {
		return nil
	}
	if _, err := strconv.ParseUint(text, 10, 64); err != nil {
		return faultf("the integer does not fit into 64 bits; send it as a string")
	}
	return nil
}

// nameSet are the names of an object.
type nameSet struct {
	few  []string
	many map[string]bool
}

// add reports whether a name is new.
func (n *nameSet) add(name string) bool {
	const linear = 16
	switch {
	case n.many != nil:
		if n.many[name] {
			return false
		}
		n.many[name] = true
		return true
	case slices.Contains(n.few, name):
		return false
	}
	if n.few = append(n.few, name); len(n.few) > linear {
		n.many = make(map[string]bool, 4*linear)
		for _, other := range n.few {
			n.many[other] = true
		}
	}
	return true
}
