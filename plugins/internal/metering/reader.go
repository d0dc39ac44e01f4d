package metering

import (
	"fmt"
	"unicode/utf8"
)

// reader decodes untrusted bytes. err keeps the first error, after which all reads return zero. Callers may therefore
// check err once.
type reader struct {
	b     []byte
	pos   int
	err   error
	funcs []place // of the indices that funcIndex has read
}

// place is a range of bytes.
type place struct{ from, to uint32 }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = malformed(format, args...)
		r.pos = len(r.b)
	}
}

// unsupported records that the module uses a feature beyond core 2.0.
func (r *reader) unsupported(feature string) {
	if r.err == nil {
		r.err = fmt.Errorf("unsupported WebAssembly feature: %s; build for core 2.0", feature)
		r.pos = len(r.b)
	}
}

func (r *reader) done() bool { return r.pos >= len(r.b) }

func (r *reader) byte() byte {
	if r.pos >= len(r.b) {
		r.fail("unexpected end")
		return 0
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

// bytes returns the next n bytes without copying them.
func (r *reader) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)-r.pos) {
		r.fail("length %d reaches beyond the end", n)
		return nil
	}
	s := r.b[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return s
}

// u32 reads an unsigned LEB128 of at most five bytes.
func (r *reader) u32() uint32 {
	if r.pos < len(r.b) && r.b[r.pos] < 0x80 { // nearly all integers have one byte
		r.pos++
		return uint32(r.b[r.pos-1])
	}
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		if shift == 28 && c > 0x0f {
			r.fail("integer too large")
			return 0
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	return 0
}

// funcIndex reads the index of a function and notes its place.
func (r *reader) funcIndex() {
	from := r.pos
	r.u32()
	r.funcs = append(r.funcs, place{uint32(from), uint32(r.pos)})
}

// skipLEB skips a LEB128 of at most maxBytes bytes. The engine validates the value.
func (r *reader) skipLEB(maxBytes int) {
	for range maxBytes {
		if r.byte() < 0x80 {
			return
		}
	}
	r.fail("integer representation too long")
}

// count reads the number of elements that follow. Each element takes at least a byte.
func (r *reader) count(what string) uint32 {
	n := r.u32()
	switch {
	case n > maxCount:
		r.fail("%d %s, more than %d", n, what, maxCount)
	case uint64(n) > uint64(len(r.b)-r.pos):
		r.fail("%d %s reach beyond the end", n, what)
	default:
		return n
	}
	return 0
}

func (r *reader) name() string {
	b := r.bytes(r.u32())
	if !utf8.Valid(b) {
		r.fail("a name is not UTF-8")
		return ""
	}
	return string(b)
}

// maxLinkName bounds the names of imports and exports. The engine puts them into its errors.
const maxLinkName = 1024

// linkName reads the name of an import or export.
func (r *reader) linkName() string {
	name := r.name()
	if len(name) > maxLinkName {
		r.fail("the name %.40q… of an import or export has %d bytes, more than %d", name, len(name), maxLinkName)
	}
	return name
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendS64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
