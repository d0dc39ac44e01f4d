package metering

import (
	"fmt"
)

func (r *reader) valType() byte {
	t := r.byte()
	switch t {
	case typeI32, typeI64, typeF32, typeF64, typeV128, typeFuncref, typeExternref:
	default:
		r.badType("value", t)
	}
	return t
}

func (r *reader) valTypes() []byte {
	n := r.u32()
	if n > maxValues {
		r.fail("%d parameters or results, more than %d", n, maxValues)
	}
	b := r.bytes(n)
	for _, t := range b {
		one := reader{b: []byte{t}}
		if one.valType(); one.err != nil {
			r.badType("value", t)
			return nil
		}
	}
	return b
}

func (r *reader) refType() byte {
	t := r.byte()
	if t != typeFuncref && t != typeExternref {
		r.badType("reference", t)
	}
	return t
}

// badType records a type beyond core 2.0.
func (r *reader) badType(kind string, t byte) {
	switch {
	case t == 0x63 || t == 0x64:
		r.unsupported(fmt.Sprintf("typed function references (type %#x)", t))
	case t == 0x69 || t == 0x74:
		r.unsupported(fmt.Sprintf("exceptions (type %#x)", t))
	case t >= 0x6a && t <= 0x73:
		r.unsupported(fmt.Sprintf("garbage collection (type %#x)", t))
	default:
		r.fail("unknown %s type %#x", kind, t)
	}
}

func (r *reader) limits() (low, high uint32, bounded bool) {
	flag := r.byte()
	if flag > 1 {
		switch {
		case flag == 2 || flag == 3:
			r.unsupported("threads (a shared memory)")
		case flag < 8:
			r.unsupported("64-bit memory (memory64)")
		default:
			r.fail("limits of kind %d", flag)
		}
		return
	}
	low = r.u32()
	if flag == 1 {
		high, bounded = r.u32(), true
	}
	return
}

// constExpr skips an initializer, which may refer to globals below the given number.
func (r *reader) constExpr(globals uint32) {
	for r.err == nil {
		switch op := r.byte(); op {
		case opEnd:
			return
		case opI32Const:
			r.skipLEB(5)
		case opI64Const:
			r.skipLEB(10)
		case opF32Const:
			r.bytes(4)
		case opF64Const:
			r.bytes(8)
		case opGlobalGet:
			if i := r.u32(); i >= globals {
				r.fail("an initializer names global %d of %d", i, globals)
			}
		case opRefNull:
			r.refType()
		case opRefFunc:
			r.funcIndex()
		case opPrefixSIMD:
			if r.u32() != simdConst {
				r.fail("an initializer is not constant")
			}
			r.bytes(16)
		default:
			if op >= 0x6a && op <= 0x6c || op >= 0x7c && op <= 0x7e {
				r.unsupported(fmt.Sprintf("extended constant expressions (opcode %#x)", op))
				return
			}
			r.fail("an initializer is not constant: opcode %#x", op)
		}
	}
}
