// Package pyjson encodes JSON byte for byte like Python's json.dumps with default arguments: the separators are ", " and
// ": ", and all characters except printable ASCII are escaped. AWX's clients receive this form, and its peers sign it.
package pyjson

const hex = "0123456789abcdef"

// AppendString appends s as a JSON string to dst. Invalid UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r == '\b':
			dst = append(dst, `\b`...)
		case r == '\f':
			dst = append(dst, `\f`...)
		case 0x20 <= r && r < 0x7f:
			dst = append(dst, byte(r))
		case r <= 0xffff:
			dst = appendUnit(dst, uint16(r))
		default:
			r -= 0x10000
			dst = appendUnit(dst, uint16(0xd800|r>>10))
			dst = appendUnit(dst, uint16(0xdc00|r&0x3ff))
		}
	}
	return append(dst, '"')
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
