package awx

import (
	"bytes"

	"github.com/edgerelay/edgerelay/relay"
)

// mostKinds is how many kinds of groups a plain message may have: each is compared with all before it.
const mostKinds = 8

// parsePlain reads the message that browsers send: sound in every respect, nothing written in an unusual way. It is a tenth of what
// a client costs to connect when package json reads it in two passes. Whatever is not plain is not ok here, and left to that.
func parsePlain(text []byte) (m message, ok bool) {
	p := plain{text}
	token := false
	ok = p.each('{', '}', func() bool {
		key, ok := p.key()
		switch {
		case ok && string(key) == "xrftoken" && !token:
			value, ok := p.text()
			m.token, token = string(value), true
			return ok
		case ok && string(key) == "groups" && !m.asks:
			m.asks = true
			m.plain, ok = p.wishes()
			return ok
		}
		return false
	})
	p.skip()
	return m, ok && len(p.rest) == 0
}

// plain is what remains of a text.
type plain struct{ rest []byte }

func (p *plain) wishes() (wishes []wish, ok bool) {
	var kinds [mostKinds][]byte
	n := 0
	ok = p.each('{', '}', func() bool {
		kind, ok := p.key()
		if !ok || n == mostKinds {
			return false
		}
		for _, before := range kinds[:n] {
			if bytes.Equal(before, kind) {
				return false
			}
		}
		kinds[n] = kind
		n++
		return p.each('[', ']', func() bool {
			item, ok := p.item()
			w := wish{string(kind), string(item)}
			wishes = append(wishes, w)
			return ok && relay.ValidGroup(w.group())
		})
	})
	return wishes, ok
}

// each reads a list: element reads each element.
func (p *plain) each(begin, end byte, element func() bool) bool {
	if !p.next(begin) {
		return false
	}
	if p.next(end) {
		return true
	}
	for element() {
		if !p.next(',') {
			return p.next(end)
		}
	}
	return false
}

// next takes one byte, and white space before it, if that is what comes.
func (p *plain) next(c byte) bool {
	p.skip()
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *plain) skip() {
	for len(p.rest) > 0 && (p.rest[0] == ' ' || p.rest[0] == '\n' || p.rest[0] == '\r' || p.rest[0] == '\t') {
		p.rest = p.rest[1:]
	}
}

func (p *plain) key() ([]byte, bool) {
	key, ok := p.text()
	return key, ok && p.next(':')
}

// text reads a string of printable ASCII without escapes.
func (p *plain) text() ([]byte, bool) {
	if !p.next('"') {
		return nil, false
	}
	for i, c := range p.rest {
		switch {
		case c == '"':
			text := p.rest[:i]
			p.rest = p.rest[i+1:]
			return text, true
		case c < ' ' || c > '~' || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

// item reads a string, or an integer without a sign.
func (p *plain) item() ([]byte, bool) {
	p.skip()
	n := 0
	for n < len(p.rest) && '0' <= p.rest[n] && p.rest[n] <= '9' {
		n++
	}
	if n == 0 {
		return p.text()
	}
	item := p.rest[:n]
	p.rest = p.rest[n:]
	return item, n == 1 || item[0] != '0'
}
