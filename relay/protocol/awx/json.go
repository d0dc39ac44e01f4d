package awx

const (
	// maxDepth is the greatest depth of an event that is embedded as JSON. Parsers of some clients give up at about a
	// thousand levels.
	maxDepth = 512
	// maxCounterDigits keeps a counter within the integers that JavaScript represents exactly.
	maxCounterDigits = 15
)

// scanJSON reports whether a text is one JSON value, by RFC 8259, with at most [maxDepth] levels; the engine has
// checked that the text is UTF-8. Of an object, it also returns the digits of the member "counter", if that is an
// integer; of several, the last counts. One pass does both, in half the time of encoding/json. See
// docs/decisions/protocol-and-authz.md#why-is-there-a-json-scanner-for-events
func scanJSON(text []byte) (counter []byte, ok bool) {
	s := jsonScanner{text: text}
	for state := scanValue; ; {
		switch s.skipSpace(); state {
		case scanValue:
			state = s.value()
		case scanKey:
			state = s.key()
		case scanNext:
			state = s.next()
		case scanEnd:
			return s.counter, s.at == len(text)
		case scanFailed:
			return nil, false
		}
	}
}

// scanState is the part of a JSON text that must come next.
type scanState uint8

const (
	scanValue scanState = iota
	scanKey
	// scanNext is a comma, or the end of an object or a list.
	scanNext
	scanEnd
	scanFailed
)

// jsonScanner scans a JSON text.
type jsonScanner struct {
	text    []byte
	at      int
	depth   int
	objects [maxDepth/64 + 1]uint64 // a bit for each level: whether it is an object
	counter []byte
	// isCounter is set from the key "counter" of the outermost object to the end of the value.
	isCounter bool
}

// peek returns the next byte, 0 at the end of the text.
func (s *jsonScanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *jsonScanner) skipSpace() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\n', '\r', '\t':
			s.at++
		default:
			return
		}
	}
}

// value scans a value, of an object or a list only the beginning.
func (s *jsonScanner) value() scanState {
	counts := s.isCounter
	if s.isCounter = false; counts {
		s.counter = nil
	}
	switch c := s.peek(); {
	case c == '"':
		return s.after(s.str())
	case c == '{', c == '[':
		return s.open(c == '{')
	case c == '-', '0' <= c && c <= '9':
		begin := s.at
		integer, ok := s.number()
		if counts && integer && s.at-begin <= maxCounterDigits {
			s.counter = s.text[begin:s.at]
		}
		return s.after(ok)
	case c == 't':
		return s.after(s.literal("true"))
	case c == 'f':
		return s.after(s.literal("false"))
	case c == 'n':
		return s.after(s.literal("null"))
	}
	return scanFailed
}

// after returns the state after a value.
func (s *jsonScanner) after(ok bool) scanState {
	switch {
	case !ok:
		return scanFailed
	case s.depth == 0:
		return scanEnd
	}
	return scanNext
}

// open scans the beginning of an object or a list, and the end of an empty one.
func (s *jsonScanner) open(object bool) scanState {
	if s.at++; s.depth == maxDepth {
		return scanFailed
	}
	s.depth++
	word, bit := s.depth/64, uint64(1)<<(s.depth%64)
	s.objects[word] &^= bit
	if object {
		s.objects[word] |= bit
	}
	s.skipSpace()
	switch c := s.peek(); {
	case object && c == '}', !object && c == ']':
		return s.next()
	case object:
		return scanKey
	}
	return scanValue
}

// inObject reports whether the innermost level is an object.
func (s *jsonScanner) inObject() bool { return s.objects[s.depth/64]>>(s.depth%64)&1 != 0 }

// next scans a comma, or the end of the innermost object or list.
func (s *jsonScanner) next() scanState {
	object, c := s.inObject(), s.peek()
	switch s.at++; {
	case c == ',' && object:
		return scanKey
	case c == ',':
		return scanValue
	case c == '}' && object, c == ']' && !object:
		s.depth--
		return s.after(true)
	}
	return scanFailed
}

// key scans a key and the colon.
func (s *jsonScanner) key() scanState {
	begin := s.at
	if s.peek() != '"' || !s.str() {
		return scanFailed
	}
	s.isCounter = s.depth == 1 && string(s.text[begin:s.at]) == `"counter"`
	s.skipSpace()
	if s.peek() != ':' {
		return scanFailed
	}
	s.at++
	return scanValue
}

// special marks the bytes in a string that are not ordinary: the quote, the backslash and control characters.
var special = func() (table [256]bool) {
	for c := range 0x20 {
		table[c] = true
	}
	table['"'], table['\\'] = true, true
	return table
}()

// str scans a string.
func (s *jsonScanner) str() bool {
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case !special[c]:
		case c == '"':
			s.at++
			return true
		case c != '\\' || !s.escape():
			return false
		}
	}
	return false
}

// escape scans an escape up to its last byte.
func (s *jsonScanner) escape() bool {
	s.at++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			s.at++
			switch c := s.peek() | 0x20; {
			case '0' <= c && c <= '9' && s.peek() == c, 'a' <= c && c <= 'f':
			default:
				return false
			}
		}
		return true
	}
	return false
}

// number scans a number, and reports whether it is an integer.
func (s *jsonScanner) number() (integer, ok bool) {
	if s.peek() == '-' {
		s.at++
	}
	if s.peek() == '0' {
		s.at++
	} else if !s.digits() {
		return false, false
	}
	integer = true
	if s.peek() == '.' {
		integer = false
		if s.at++; !s.digits() {
			return false, false
		}
	}
	if s.peek()|0x20 == 'e' {
		integer = false
		if s.at++; s.peek() == '+' || s.peek() == '-' {
			s.at++
		}
		return false, s.digits()
	}
	return integer, true
}

// digits scans one digit or more.
func (s *jsonScanner) digits() bool {
	begin := s.at
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.at++
	}
	return s.at > begin
}

// literal scans a word.
func (s *jsonScanner) literal(word string) bool {
	if len(s.text)-s.at < len(word) || string(s.text[s.at:s.at+len(word)]) != word {
		return false
	}
	s.at += len(word)
	return true
}
