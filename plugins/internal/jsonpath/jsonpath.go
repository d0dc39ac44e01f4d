// Package jsonpath finds a value in a JSON text without decoding the rest.
//
// A path consists of member names and array positions, joined by dots: "event_data.res.0.stdout". A backslash escapes a
// dot or a backslash. If a member occurs twice, the first occurrence counts. The rest of the text is skipped and not
// validated: on a text that is not JSON the result is some value or none, never a panic.
package jsonpath

import (
	"bytes"
	"encoding/json"
)

// Find returns the value at path, quotes included, as the range doc[from:to].
// See docs/decisions/plugins.md#why-are-json_get-and-json_find-our-own-without-a-grant
func Find(doc, path []byte) (from, to int, ok bool) {
	i := space(doc, 0)
	for len(path) > 0 {
		var name []byte
		name, path = cut(path)
		if i >= len(doc) {
			return 0, 0, false
		}
		switch doc[i] {
		case '{':
			i = member(doc, i+1, name)
		case '[':
			i = element(doc, i+1, name)
		default:
			return 0, 0, false
		}
		if i < 0 {
			return 0, 0, false
		}
	}
	to = skip(doc, i)
	if to <= i {
		return 0, 0, false
	}
	return i, to, true
}

// Text returns the text of a value: a string decoded, any other value unchanged. Only a string with escapes is copied.
func Text(value []byte) []byte {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return value
	}
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return inner
	}
	return []byte(s)
}

// cut splits off the first name of a path. cutEscaped does the same for a path with escapes.
func cut(path []byte) (name, rest []byte) {
	for i, c := range path {
		switch c {
		case '.':
			return path[:i], path[i+1:]
		case '\\':
			return cutEscaped(path)
		}
	}
	return path, nil
}

func cutEscaped(path []byte) (name, rest []byte) {
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '\\' && i+1 < len(path):
			i++
			name = append(name, path[i])
		case path[i] == '.':
			return name, path[i+1:]
		default:
			name = append(name, path[i])
		}
	}
	return name, nil
}

// space returns the first position from i on that is not white space.
func space(doc []byte, i int) int {
	for i < len(doc) && (doc[i] == ' ' || doc[i] == '\n' || doc[i] == '\t' || doc[i] == '\r') {
		i++
	}
	return i
}

// member returns the start of the value of name in the object whose members begin at i, or -1.
func member(doc []byte, i int, name []byte) int {
	for {
		i = space(doc, i)
		if i >= len(doc) || doc[i] != '"' {
			return -1
		}
		end := skipString(doc, i)
		if end < 0 {
			return -1
		}
		key := doc[i+1 : end-1]
		i = space(doc, end)
		if i >= len(doc) || doc[i] != ':' {
			return -1
		}
		i = space(doc, i+1)
		// A name with a backslash may equal the text of a key that means something else.
		if bytes.Equal(key, name) && bytes.IndexByte(name, '\\') < 0 ||
			bytes.IndexByte(key, '\\') >= 0 && bytes.Equal(Text(doc[end-len(key)-2:end]), name) {
			return i
		}
		if i = skip(doc, i); i < 0 {
			return -1
		}
		i = space(doc, i)
		if i >= len(doc) || doc[i] != ',' {
			return -1
		}
		i++
	}
}

// element returns the start of the element at the position that name spells, or -1.
func element(doc []byte, i int, name []byte) int {
	n := 0
	if len(name) == 0 || len(name) > 9 {
		return -1
	}
	for _, c := range name {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	for ; ; n-- {
		i = space(doc, i)
		if i >= len(doc) || doc[i] == ']' {
			return -1
		}
		if n == 0 {
			return i
		}
		if i = skip(doc, i); i < 0 {
			return -1
		}
		i = space(doc, i)
		if i >= len(doc) || doc[i] != ',' {
			return -1
		}
		i++
	}
}

// skip returns the end of the value that begins at i, or -1. It does not recurse, so deep nesting costs no stack.
func skip(doc []byte, i int) int {
	if i >= len(doc) {
		return -1
	}
	switch doc[i] {
	case '"':
		return skipString(doc, i)
	case '{', '[':
		for depth := 0; i < len(doc); {
			switch doc[i] {
			case '"':
				if i = skipString(doc, i); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return -1
	case ',', ':', '}', ']':
		return -1
	}
	for i < len(doc) && doc[i] != ',' && doc[i] != '}' && doc[i] != ']' && doc[i] > ' ' {
		i++
	}
	return i
}

// skipString returns the end of the string that begins at i, or -1. Short strings and texts with many escapes are read
// byte by byte, long plain texts from quote to quote.
func skipString(doc []byte, i int) int {
	const near = 48
	for j := i + 1; ; {
		for end := min(j+near, len(doc)); j < end; j++ {
			switch doc[j] {
			case '"':
				return j + 1
			case '\\':
				j++
			}
		}
		if j >= len(doc) {
			return -1
		}
		q := bytes.IndexByte(doc[j:], '"')
		if q < 0 {
			return -1
		}
		q += j
		// The quote is escaped if an odd number of backslashes stands before it.
		n := 0
		for q-1-n >= j && doc[q-1-n] == '\\' {
			n++
		}
		if n%2 == 0 {
			return q + 1
		}
		j = q + 1
	}
}
