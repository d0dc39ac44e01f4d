package ws

import "strings"

// extensionReader reads the list of a Sec-WebSocket-Extensions header (RFC 6455 section 9.1) from left to right:
//
//	list      = *( [ extension ] "," ) [ extension ]
//	extension = token *( ";" parameter )
//	parameter = token [ "=" ( token | quoted-string ) ]
//
// Spaces and tabs may stand around each of these. The content of a quoted string is a token as well.
type extensionReader struct {
	rest   string
	failed bool // the list is malformed
}

// parameter is a parameter of an extension. hasValue distinguishes "name" from "name=value".
type parameter struct {
	name, value string
	hasValue    bool
}

// next returns the name of the next extension. ok is false at the end of the list.
func (r *extensionReader) next() (name string, ok bool) {
	for r.skip(',') { // also empty elements
	}
	if r.rest == "" {
		return "", false
	}
	return r.token(), !r.failed
}

// parameter returns the next parameter of the current extension. ok is false if there are none left.
func (r *extensionReader) parameter() (p parameter, ok bool) {
	if !r.skip(';') {
		if r.rest != "" && r.rest[0] != ',' {
			r.failed = true
		}
		return p, false
	}
	p.name = r.token()
	if p.hasValue = r.skip('='); p.hasValue {
		r.space()
		if strings.HasPrefix(r.rest, `"`) {
			p.value = r.quoted()
		} else {
			p.value = r.token()
		}
	}
	return p, !r.failed
}

// skip skips a separator and the space before it, if the separator follows.
func (r *extensionReader) skip(separator byte) bool {
	r.space()
	if r.rest == "" || r.rest[0] != separator {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

func (r *extensionReader) space() { r.rest = strings.TrimLeft(r.rest, " \t") }

// token reads a token, which must not be empty.
func (r *extensionReader) token() string {
	r.space()
	n := 0
	for n < len(r.rest) && isTokenByte(r.rest[n]) {
		n++
	}
	r.failed = r.failed || n == 0
	token := r.rest[:n]
	r.rest = r.rest[n:]
	return token
}

// quoted reads a quoted string. A backslash stands before a byte that is taken as it is.
func (r *extensionReader) quoted() string {
	var b strings.Builder
	for i := 1; i < len(r.rest); i++ {
		switch c := r.rest[i]; {
		case c == '"':
			r.rest = r.rest[i+1:]
			r.failed = r.failed || b.Len() == 0
			return b.String()
		case c == '\\' && i+1 < len(r.rest):
			i++
		}
		if !isTokenByte(r.rest[i]) {
			break
		}
		b.WriteByte(r.rest[i])
	}
	r.failed = true
	return ""
}

// isTokenByte reports whether a byte may be part of a token (RFC 9110 section 5.6.2).
func isTokenByte(c byte) bool {
	switch {
	case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
