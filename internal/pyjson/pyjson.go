// Package pyjson encodes JSON byte for byte like Python's json.dumps with default arguments: the separators are ", "
// and ": ", and all characters except printable ASCII are escaped. AWX's clients receive this form, and its peers sign
// it.
package pyjson

import "unicode/utf8"

const hex = "0123456789abcdef"

// AppendString appends s as a JSON string to dst. Invalid UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		dst = appendRune(dst, r)
	}
	return append(dst, '"')
}

// AppendText appends s as a JSON string to dst. The error is [ErrUTF8].
func AppendText(dst, s []byte) ([]byte, error) {
	dst = append(dst, '"')
	for len(s) > 0 {
		n := 0
		for n < len(s) && plain(s[n]) {
			n++
		}
		dst, s = append(dst, s[:n]...), s[n:]
		if len(s) == 0 {
			break
		}
		r, size := utf8.DecodeRune(s)
		if r == utf8.RuneError && size < 2 {
			return dst, ErrUTF8
		}
		dst, s = appendRune(dst, r), s[size:]
	}
	return append(dst, '"'), nil
}

// appendRune appends a character of a string.
func appendRune(dst []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r == '\n':
		return append(dst, `\n`...)
	case r == '\r':
		return append(dst, `\r`...)
	case r == '\t':
		return append(dst, `\t`...)
	case r == '\b':
		return append(dst, `\b`...)
	case r == '\f':
		return append(dst, `\f`...)
	case 0x20 <= r && r < 0x7f:
		return append(dst, byte(r))
	case r <= 0xffff:
		return appendUnit(dst, uint16(r))
	}
	r -= 0x10000
	dst = appendUnit(dst, uint16(0xd800|r>>10))
	return appendUnit(dst, uint16(0xdc00|r&0x3ff))
}

// appendUnit appends the escape of a UTF-16 code unit.
func appendUnit(dst []byte, u uint16) []byte {
	return append(dst, '\\', 'u', hex[u>>12], hex[u>>8&15], hex[u>>4&15], hex[u&15])
}

// AppendStrings appends list as a JSON list of strings to dst.
func AppendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = AppendString(dst, s)
	}
	return append(dst, ']')
}
