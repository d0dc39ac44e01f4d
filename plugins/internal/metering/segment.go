package metering

import "unicode/utf8"

// The rewriter copies the sections below unchanged, and checks them only on behalf of wazero, whose decoder allocates
// as many elements as a section claims to hold: a module of 15 bytes can claim 250 GB.

// elements checks the element section. An element is a function's index or an initializer. The flags of a segment
// determine the fields before the elements.
func (m *module) elements(r *reader) {
	const passive, explicit, expressions = 1, 2, 4
	total := uint64(0)
	for n := r.count("element segments"); n > 0 && r.err == nil; n-- {
		flags := r.u32()
		if flags > 7 {
			r.fail("unknown kind %d of element segment", flags)
			return
		}
		if flags&passive == 0 {
			if flags&explicit != 0 {
				r.u32() // the table
			}
			r.constExpr(m.globals)
		}
		if flags&(passive|explicit) != 0 {
			if flags&expressions != 0 {
				r.refType()
			} else if r.byte() != 0 {
				r.fail("unknown kind of elements")
			}
		}
		k := r.u32()
		if total += uint64(k); total > maxElements {
			r.fail("more than %d elements", maxElements)
		}
		for ; k > 0 && r.err == nil; k-- {
			if flags&expressions != 0 {
				r.constExpr(m.globals)
			} else {
				r.funcIndex()
			}
		}
	}
}

// data checks the data section.
func (m *module) data(r *reader) {
	for n := r.count("data segments"); n > 0 && r.err == nil; n-- {
		switch kind := r.u32(); kind {
		case 0:
			r.constExpr(m.globals)
		case 1:
		case 2:
			r.u32()
			r.constExpr(m.globals)
		default:
			r.fail("unknown kind %d of data segment", kind)
		}
		r.bytes(r.u32())
	}
}

// maxNameBytes is the length that names in the name section are cut to.
const maxNameBytes = 128

// names returns a name section with only the names of the module and its functions, which stack traces show, each cut
// to maxNameBytes: the engine copies up to 30 of them into the error of a failed call. The result is nil for a
// malformed name section, which has no effect on the module.
func (m *module) names(body []byte) []byte {
	r := reader{b: body}
	r.name() // "name"
	out := append([]byte(nil), r.b[:r.pos]...)
	for !r.done() {
		id := r.byte()
		sub := reader{b: r.bytes(r.u32())}
		var kept []byte
		switch id {
		case 0:
			kept = appendName(kept, sub.name())
		case 1:
			n := sub.count("names")
			kept = appendU32(kept, n)
			for ; n > 0 && sub.err == nil; n-- {
				kept = appendU32(kept, m.shifted(sub.u32()))
				kept = appendName(kept, sub.name())
			}
		default:
			continue
		}
		if r.err != nil || sub.err != nil || !sub.done() {
			return nil
		}
		out = appendSection(out, id, kept)
	}
	if r.err != nil {
		return nil
	}
	return out
}

// appendName appends a name, cut to maxNameBytes.
func appendName(b []byte, name string) []byte {
	if len(name) > maxNameBytes {
		n := maxNameBytes
		for !utf8.RuneStart(name[n]) {
			n--
		}
		name = name[:n]
	}
	return append(appendU32(b, uint32(len(name))), name...)
}
