package edgerelay

// Set replaces the value at path by value, JSON text. If the value is missing and its parent is an object, Set appends
// the member; an array gets no new element. Set refuses a value that is not one JSON value. It reports whether it
// changed the payload.
func (e *Event) Set(path, value string) bool {
	e.value = append(e.value[:0], value...)
	return oneValue(e.value) && e.set(path)
}

// SetString is like [Event.Set], with a text that becomes a JSON string.
func (e *Event) SetString(path, text string) bool {
	e.value = appendQuoted(e.value[:0], text)
	return e.set(path)
}

// set sets the value at path to e.value.
func (e *Event) set(path string) bool {
	if path == "" {
		return false
	}
	if p, ok := e.locate(path); ok {
		e.replace(path, p.origin.from, p.from, p.to, nil, e.value)
		return true
	}
	parent, last := cutLast(path)
	p, ok := e.locate(parent)
	doc := e.EditedPayload()
	if !ok || doc[p.from] != '{' {
		return false
	}
	end := p.to - 1 // before the closing bracket and its white space
	for space(doc[end-1]) {
		end--
	}
	e.name = e.name[:0]
	if end-1 > p.from {
		e.name = append(e.name, ',')
	}
	name, _ := cutName(last)
	e.name = append(appendQuoted(e.name, name), ':')
	at := -1
	if p.origin.from >= 0 {
		at = p.origin.to - 1
	}
	e.replace(path, at, end, end, e.name, e.value)
	return true
}

// Remove removes the member or the array element at path, and its comma. It reports whether it changed the payload. A
// member may occur twice: for e.Remove(path) {} removes all occurrences.
func (e *Event) Remove(path string) bool {
	if path == "" {
		return false
	}
	p, ok := e.locate(path)
	if !ok {
		return false
	}
	from, to, doc := p.from, p.to, e.EditedPayload()
	if start, _, member := memberName(doc, from); member {
		from = start
	}
	next, prev := skipSpace(doc, to), skipSpaceBack(doc, from-1)
	switch {
	case next >= len(doc) || prev < 0: // not JSON
		return false
	case doc[next] == ',':
		to = skipSpace(doc, next+1)
	case doc[prev] == ',':
		from = prev
	default:
		from, to = prev+1, next
	}
	e.replace(path, p.origin.from, from, to, nil, nil)
	return true
}

// Rename gives the member at path another name, and keeps its value. It refuses a name that the object has already,
// and an element of an array. It reports whether it changed the payload.
func (e *Event) Rename(path, name string) bool {
	if path == "" {
		return false
	}
	p, ok := e.locate(path)
	if !ok {
		return false
	}
	from, to, member := memberName(e.EditedPayload(), p.from)
	if !member || from < 0 {
		return false
	}
	parent, _ := cutLast(path)
	renamed := parent + escapeName(name) + "."
	if _, taken := e.locate(renamed); taken {
		return false
	}
	e.name = appendQuoted(e.name[:0], name)
	e.replace(path, p.origin.from, from, to, e.name, nil)
	e.record(splice{path: renamed, at: p.origin.from})
	return true
}

// Edited returns the verdict after edits: [Replace] with [Event.EditedPayload], or [Pass] if no edit changed anything.
func (e *Event) Edited() Verdict {
	if !e.changed {
		return Pass
	}
	return Replace(e.edited)
}

// EditedPayload returns the payload after the edits so far. The next edit, and the next event, overwrite the bytes.
func (e *Event) EditedPayload() []byte {
	if e.changed {
		return e.edited
	}
	return e.Payload
}

// replace replaces the bytes from:to of the text by head and tail: an edit of path. at is the place in the payload as
// it arrived, see [splice].
func (e *Event) replace(path string, at, from, to int, head, tail []byte) {
	text, out := e.EditedPayload(), e.edited
	end := from + len(head) + len(tail)
	size := end + len(text) - to
	if cap(out) < size {
		out = make([]byte, size, size+size/8+256)
	}
	out = out[:size]
	copy(out[end:], text[to:]) // first, because text and out may be the same array
	copy(out, text[:from])
	copy(out[from:], head)
	copy(out[from+len(head):], tail)
	e.edited, e.changed = out, true
	e.record(splice{path, at, end - to, head == nil && tail == nil})
}

// memberName returns the range of the name, quotes included, of the member whose value begins at i. It reports whether
// there is a name: an element of an array has none. On a text that is not JSON, start may be -1.
func memberName(doc []byte, i int) (start, end int, member bool) {
	if i = skipSpaceBack(doc, i-1); i < 0 || doc[i] != ':' {
		return 0, 0, false
	}
	if i = skipSpaceBack(doc, i-1); i < 0 || doc[i] != '"' {
		return -1, 0, true
	}
	end = i + 1
	for i--; i >= 0; i-- {
		if doc[i] != '"' {
			continue
		}
		// The quote is escaped if an odd number of backslashes stands before it.
		n := 0
		for i-1-n >= 0 && doc[i-1-n] == '\\' {
			n++
		}
		if n%2 == 0 {
			break
		}
		i -= n
	}
	return i, end, true
}

// skipSpaceBack returns the last position up to i that is not white space, or -1.
func skipSpaceBack(doc []byte, i int) int {
	for i >= 0 && space(doc[i]) {
		i--
	}
	return i
}

// oneValue reports whether text consists of one JSON value, without validating the value's inside.
func oneValue(text []byte) bool {
	start := skipSpace(text, 0)
	end := skipValue(text, start)
	if end <= start || skipSpace(text, end) < len(text) {
		return false
	}
	switch text[start] {
	case '"', '{', '[':
		return true
	}
	for _, c := range text[start:end] {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '+', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// escapeName makes a name an element of a path.
func escapeName(name string) string {
	out := make([]byte, 0, len(name)+1)
	for _, c := range []byte(name) {
		if c == '.' || c == '\\' {
			out = append(out, '\\')
		}
		out = append(out, c)
	}
	return string(out)
}

// appendQuoted appends a text as a JSON string.
func appendQuoted(b []byte, text string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(append(b, text[from:]...), '"')
}
