package main

import "bytes"

const defaultMask = "********"

// defaultWords mark a secret if a name contains a word of the list.
var defaultWords = []string{
	"password",
	"passwd",
	"passphrase",
	"become_pass",
	"ssh_pass",
	"secret",
	"token",
	"api_key",
	"apikey",
	"private_key",
	"authorization",
}

// redactor masks secrets in JSON text without decoding the text. It masks the values of members with a word in the
// name. In all other strings it masks text after a word with = or :, text after an option (--password x), passwords
// of URLs (//user:x@host) and PEM private keys. In doubt it masks more. The output is JSON if the input is.
type redactor struct {
	words [256][][]byte // in lower case, by their first byte in lower and upper case
	first [256]bool     // bytes that words begin with
	stops [256]bool     // bytes that need attention inside a string
	mask  []byte

	doc, out []byte
	done     int // doc[:done] is in out
}

func newRedactor(words []string, mask string) *redactor {
	r := &redactor{mask: []byte(mask)}
	for _, w := range words {
		word := bytes.ToLower([]byte(w))
		for _, c := range []byte{word[0], upper(word[0])} {
			r.first[c] = true
			r.words[c] = append(r.words[c], word)
			if word[0] == upper(word[0]) { // not a letter
				break
			}
		}
	}
	r.stops = r.first
	for _, c := range []byte(`\:-`) {
		r.stops[c] = true
	}
	return r
}

// redact returns a redacted copy, or nil if there is nothing to redact. The copy is valid until the next call.
func (r *redactor) redact(doc []byte) []byte {
	r.doc, r.out, r.done = doc, r.out[:0], 0
	depth, within := 0, 0 // within: depth of the container with a secret name
	named := false        // the name before this value is secret
	for i := 0; i < len(doc); {
		switch c := doc[i]; {
		case c == '"':
			end := stringEnd(doc, i)
			if next := skipSpace(doc, end, len(doc)); next < len(doc) && doc[next] == ':' {
				named = r.contains(doc[i+1 : end-1])
				i = next + 1
				continue
			}
			if named || within > 0 {
				r.cover(i+1, end-1, false)
			} else {
				r.text(i+1, end-1)
			}
			named, i = false, end
		case c == '{' || c == '[':
			depth++
			if named && within == 0 {
				within = depth
			}
			named = false
			i++
		case c == '}' || c == ']':
			if depth == within {
				within = 0
			}
			depth--
			named = false
			i++
		case c == '-' || c >= '0' && c <= '9':
			end := i
			for end < len(doc) && (nameByte(doc[end]) || doc[end] == '.' || doc[end] == '+') {
				end++
			}
			if named || within > 0 {
				r.cover(i, end, true)
			}
			named, i = false, end
		default:
			named = named && c != ','
			i++
		}
	}
	if r.done == 0 {
		return nil
	}
	r.reserve(len(doc) - r.done)
	r.out = append(r.out, doc[r.done:]...)
	return r.out
}

// reserve makes room for n more bytes of output, and for much more than append would: abandoned buffers have to be
// collected.
func (r *redactor) reserve(n int) {
	if need := len(r.out) + n; need > cap(r.out) {
		out := make([]byte, len(r.out), max(need, 2*cap(r.out), len(r.doc)+len(r.doc)/8))
		copy(out, r.out)
		r.out = out
	}
}

// cover replaces doc[from:to] by the mask, with quotes if the mask replaces a number.
func (r *redactor) cover(from, to int, quotes bool) {
	if from >= to || bytes.Equal(r.doc[from:to], r.mask) {
		return
	}
	r.reserve(from - r.done + len(r.mask) + 2)
	// Writes to r only once: each write is expensive while the garbage collector runs.
	out := append(r.out, r.doc[r.done:from]...)
	if quotes {
		out = append(out, '"')
	}
	out = append(out, r.mask...)
	if quotes {
		out = append(out, '"')
	}
	r.out = out
	r.done = to
}

// text masks secrets in doc[from:to], the inside of a string.
func (r *redactor) text(from, to int) {
	doc, stops := r.doc[:to], &r.stops
	for i := from; i < len(doc); {
		switch c := doc[i]; {
		case !stops[c]:
			i++
		case c == '\\':
			i += 2
		case c == ':' && r.at(i, to, "://"):
			i = r.userinfo(i+3, to)
		case c == '-' && r.at(i, to, "-----begin "):
			i = r.privateKey(i, to)
		case r.first[c]:
			if n := r.word(i, to); n > 0 {
				i = r.assignment(from, i, i+n, to)
			} else {
				i++
			}
		default:
			i++
		}
	}
}

// userinfo masks the password of a URL. The URL's authority begins at i.
func (r *redactor) userinfo(i, to int) int {
	colon := -1
	for ; i < to; i++ {
		switch c := r.doc[i]; {
		case c == ':' && colon < 0:
			colon = i
		case c == '@':
			if colon >= 0 {
				r.cover(colon+1, i, false)
			}
			return i
		case c <= ' ' || c == '/' || c == '\\' || c == '\'':
			return i
		}
	}
	return i
}

// privateKey masks the body of a PEM private key. The key's first line begins at i.
func (r *redactor) privateKey(i, to int) int {
	const dashes = 11
	for head := i + dashes; head < min(i+64, to); head++ {
		if r.at(head, to, "private key-----") {
			body := head + len("private key-----")
			end := body
			for end < to && !r.at(end, to, "-----end") {
				end++
			}
			r.cover(body, end, false)
			return end
		}
	}
	return i + dashes
}

// assignment masks the value that is assigned to the word doc[word:i], if there is one. The text begins at from.
func (r *redactor) assignment(from, word, i, to int) int {
	for i < to && nameByte(r.doc[i]) {
		i++
	}
	p := r.quote(i, to)
	gap := skipSpace(r.doc, p, to)
	switch {
	case gap < to && (r.doc[gap] == '=' || r.doc[gap] == ':'):
		p = skipSpace(r.doc, gap+1, to)
	case gap > i && p == i && r.option(from, word):
		p = gap
	default:
		return i
	}
	for _, scheme := range []string{"bearer ", "basic ", "token "} {
		if r.at(p, to, scheme) {
			p = skipSpace(r.doc, p+len(scheme), to)
			break
		}
	}
	end := p
	if open := r.quote(p, to); open > p {
		end, p = r.closing(open, to, open-p-1), open
	} else {
		end = r.bare(p, to)
	}
	r.cover(p, end, false)
	return end
}

// option reports whether the name around the word at i begins with a dash.
func (r *redactor) option(from, i int) bool {
	for i > from && nameByte(r.doc[i-1]) {
		i--
	}
	return r.doc[i] == '-'
}

// quote returns the position after a quotation mark at i, escaped or not; i if there is none.
func (r *redactor) quote(i, to int) int {
	p := i
	for p < to && r.doc[p] == '\\' {
		p++
	}
	if p < to && (r.doc[p] == '"' || p == i && r.doc[p] == '\'') {
		return p + 1
	}
	return i
}

// closing returns the position of the quotation mark that matches the one before open, with the same number of
// backslashes.
func (r *redactor) closing(open, to, backslashes int) int {
	mark, run := r.doc[open-1], 0
	for i := open; i < to; i++ {
		switch c := r.doc[i]; {
		case c == '\\':
			run++
			continue
		case c == mark && run == backslashes:
			return i - run
		}
		run = 0
	}
	return to
}

// bare returns the end of a value without quotation marks: a space, line end, quotation mark or control character.
func (r *redactor) bare(i, to int) int {
	for i < to {
		c := r.doc[i]
		if c <= ' ' || c == '\'' {
			return i
		}
		if c != '\\' {
			i++
			continue
		}
		if i+1 >= to {
			return to
		}
		switch e := r.doc[i+1]; {
		case e == '\\' || e == '/':
			i += 2
		case e == 'u' && i+6 <= to && !(r.doc[i+2] == '0' && r.doc[i+3] == '0' && r.doc[i+4] < '2'):
			i += 6
		default:
			return i
		}
	}
	return to
}

// word returns the length of the word at i, or 0.
func (r *redactor) word(i, to int) int {
	for _, w := range r.words[r.doc[i]] {
		if to-i >= len(w) && equalFold(r.doc[i:i+len(w)], w) {
			return len(w)
		}
	}
	return 0
}

func (r *redactor) contains(name []byte) bool {
	for i, c := range name {
		if !r.first[c] {
			continue
		}
		for _, w := range r.words[c] {
			if len(name)-i >= len(w) && equalFold(name[i:i+len(w)], w) {
				return true
			}
		}
	}
	return false
}

// at reports whether the document has text, given in lower case, at i in lower or upper case.
func (r *redactor) at(i, to int, text string) bool {
	return to-i >= len(text) && equalFold(r.doc[i:i+len(text)], text)
}

func equalFold[T string | []byte](b []byte, lower T) bool {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

func skipSpace(b []byte, i, to int) int {
	for i < to && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// stringEnd returns the position after the string that begins at i. A string without an end extends to one position
// after the text, so that the rest of the text is its content.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b) + 1
}
