package edgerelay

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// find looks up a path as the relay does: doc[from:to] is the value. The rest of the text is skipped and not
// validated. Edits search with find once the text differs from the relay's copy.
func find(doc []byte, path string) (from, to int, ok bool) {
	i := skipSpace(doc, 0)
	for path != "" {
		var name string
		name, path = cutName(path)
		if i >= len(doc) {
			return 0, 0, false
		}
		switch doc[i] {
		case '{':
			i = findMember(doc, i+1, name)
		case '[':
			i = findElement(doc, i+1, name)
		default:
			return 0, 0, false
		}
		if i < 0 {
			return 0, 0, false
		}
	}
	to = skipValue(doc, i)
	if to <= i {
		return 0, 0, false
	}
	return i, to, true
}

// cutName splits off the first name of a path. A backslash escapes the next character.
func cutName(path string) (name, rest string) {
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '.':
			return path[:i], path[i+1:]
		case '\\':
			return cutEscaped(path)
		}
	}
	return path, ""
}

func cutEscaped(path string) (name, rest string) {
	text := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '\\' && i+1 < len(path):
			i++
			text = append(text, path[i])
		case path[i] == '.':
			return string(text), path[i+1:]
		default:
			text = append(text, path[i])
		}
	}
	return string(text), ""
}

// cutLast splits a path before its last name: parent+last equals the path, and parent names the container.
func cutLast(path string) (parent, last string) {
	start := 0
	for i := 0; i < len(path)-1; i++ {
		switch path[i] {
		case '\\':
			i++
		case '.':
			start = i + 1
		}
	}
	return path[:start], path[start:]
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// skipSpace returns the first position from i on that is not white space.
func skipSpace(doc []byte, i int) int {
	for i < len(doc) && space(doc[i]) {
		i++
	}
	return i
}

// findMember returns the start of the value of name in the object whose members begin at i, or -1.
func findMember(doc []byte, i int, name string) int {
	for {
		i = skipSpace(doc, i)
		if i >= len(doc) || doc[i] != '"' {
			return -1
		}
		start := i
		if i = skipString(doc, i); i < 0 {
			return -1
		}
		key := doc[start+1 : i-1]
		i = skipSpace(doc, i)
		if i >= len(doc) || doc[i] != ':' {
			return -1
		}
		i = skipSpace(doc, i+1)
		// A key with escapes may look like a name and mean another.
		if bytes.IndexByte(key, '\\') < 0 && string(key) == name ||
			bytes.IndexByte(key, '\\') >= 0 && string(unescape(key)) == name {
			return i
		}
		if i = skipComma(doc, skipValue(doc, i)); i < 0 {
			return -1
		}
	}
}

// findElement returns the start of the element at the position that name spells, or -1.
func findElement(doc []byte, i int, name string) int {
	n := 0
	if len(name) == 0 || len(name) > 9 {
		return -1
	}
	for _, c := range []byte(name) {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	for ; ; n-- {
		i = skipSpace(doc, i)
		if i >= len(doc) || doc[i] == ']' {
			return -1
		}
		if n == 0 {
			return i
		}
		if i = skipComma(doc, skipValue(doc, i)); i < 0 {
			return -1
		}
	}
}

// skipComma returns the position after the comma that follows a value's end i, or -1.
func skipComma(doc []byte, i int) int {
	if i < 0 {
		return -1
	}
	if i = skipSpace(doc, i); i >= len(doc) || doc[i] != ',' {
		return -1
	}
	return i + 1
}

// skipValue returns the end of the value that begins at i, or -1.
func skipValue(doc []byte, i int) int {
	if i >= len(doc) {
		return -1
	}
	switch doc[i] {
	case '"':
		return skipString(doc, i)
	case '{', '[':
		return skipContainer(doc, i)
	case ',', ':', '}', ']':
		return -1
	}
	for i < len(doc) && doc[i] != ',' && doc[i] != '}' && doc[i] != ']' && doc[i] > ' ' {
		i++
	}
	return i
}

// skipContainer returns the end of the object or array that begins at i, or -1. It does not recurse, so deep nesting
// costs no stack.
func skipContainer(doc []byte, i int) int {
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
}

// skipString returns the end of the string that begins at i, or -1.
func skipString(doc []byte, i int) int {
	for i++; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}

// decoded returns the text of a string, and any other value unchanged.
func decoded(value []byte) []byte {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return value
	}
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	return unescape(inner)
}

// escapes maps the letter of an escape to its character.
var escapes = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// unescape decodes the inside of a string. A text with an invalid escape stays as it is, as in the relay.
func unescape(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c < ' ' || c == '"':
			return text
		case c != '\\':
			out = append(out, c)
			i++
		case i+1 < len(text) && escapes[text[i+1]] != 0:
			out = append(out, escapes[text[i+1]])
			i += 2
		default:
			r := codeUnit(text[i:])
			if r < 0 {
				return text
			}
			i += 6
			if utf16.IsSurrogate(r) {
				low := codeUnit(text[i:])
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

// codeUnit returns the number of an escape such as \u00e9 that text begins with, or -1.
func codeUnit(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	n := rune(0)
	for _, c := range text[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		n = n<<4 | rune(c)
	}
	return n
}
