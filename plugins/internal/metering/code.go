package metering

import "fmt"

const (
	runLength     = 64   // instructions in a row that cost one unit
	growPageShift = 11   // memory.grow costs 2048 units a page …
	growPageCap   = 1024 // … for at most so many pages, if the options do not say how many there can be
)

// frame is one entry of the control stack.
type frame struct {
	kind    byte // opBlock, opLoop, opIf or opElse; the function's own is opBlock
	params  int
	results int
	height  int  // of the operand stack below the parameters
	run     int  // the most uncharged cost on any branch to the end; -1: none reaches it
	ifRun   int  // cost at an if, with which its else or its end begins
	dead    bool // entered in unreachable code
}

// body rewrites one function. In one pass it copies instructions, inserts charges, and follows two figures along
// every path: the uncharged cost of instructions, and the height of the operand stack, from which the frame's size is
// estimated.
type body struct {
	m      *module
	r      reader
	fuel   uint32
	out    []byte
	ctrl   []frame
	locals uint32 // parameters and declared
	wide   bool   // uses v128, whose slots are 16 bytes
	bulk   bool   // needs the i32 scratch local
	calls  bool
	// constructs counts blocks, loops and ifs.
	constructs int
	dead       bool
	run        int // uncharged cost
	height     int
	deep       int          // greatest operand stack at a call
	rets       []returnSite // a function that gives stack back leaves through its end
}

type returnSite struct{ at, depth int }

// rewriteCode returns the body of the code section, metered.
func (m *module) rewriteCode(fuel uint32) ([]byte, error) {
	r := reader{b: m.code}
	out := make([]byte, 0, len(m.code)+len(m.code)/4+16)
	var n uint32
	if m.code != nil {
		n = r.u32()
	}
	defined := len(m.funcs) - int(m.importedFuncs)
	if r.err == nil && uint64(n) != uint64(defined) {
		return nil, malformed("%d functions are declared and %d have code", defined, n)
	}
	out = appendU32(out, n)
	b := body{m: m, fuel: fuel}
	var scratch []byte
	all := uint64(0)
	for i := range int(n) {
		code := r.bytes(r.u32())
		if r.err != nil {
			return nil, fmt.Errorf("code of function %d: %w", int(m.importedFuncs)+i, r.err)
		}
		b.r = reader{b: code}
		var err error
		if scratch, err = b.rewrite(scratch[:0], m.types[m.funcs[int(m.importedFuncs)+i]]); err != nil {
			return nil, fmt.Errorf("code of function %d: %w", int(m.importedFuncs)+i, err)
		}
		if all += uint64(b.locals); all > allLocals {
			return nil, malformed("more than %d locals in all", allLocals)
		}
		out = appendU32(out, uint32(len(scratch)))
		out = append(out, scratch...)
	}
	if r.err == nil && !r.done() {
		r.fail("%d bytes too many in the code section", len(r.b)-r.pos)
	}
	return out, r.err
}

// rewrite appends the metered function to dst.
func (b *body) rewrite(dst []byte, t funcType) ([]byte, error) {
	b.out, b.ctrl, b.rets = b.out[:0], b.ctrl[:0], b.rets[:0]
	b.wide, b.bulk, b.calls, b.dead = false, false, false, false
	b.run, b.height, b.deep, b.constructs = 0, 0, 0, 0

	groups := b.r.u32()
	declared := b.r.pos
	locals := uint64(len(t.params))
	for range groups {
		locals += uint64(b.r.u32())
		if b.r.valType() == typeV128 {
			b.wide = true
		}
		if b.r.err != nil {
			return nil, b.r.err
		}
		if locals > maxLocals { // which also keeps frame sizes far from overflow
			return nil, malformed("more than %d locals", maxLocals)
		}
	}
	b.locals = uint32(locals)
	declaration := b.r.b[declared:b.r.pos]

	b.ctrl = append(b.ctrl, frame{kind: opBlock, results: len(t.results), run: -1})
	for len(b.ctrl) > 0 && b.r.err == nil {
		b.instruction()
	}
	if b.r.err == nil && !b.r.done() {
		b.r.fail("%d bytes after the end", len(b.r.b)-b.r.pos)
	}
	if b.r.err != nil {
		return nil, b.r.err
	}
	return b.assemble(dst, t, groups, declaration), nil
}

// assemble joins locals, entry charge, code and, in a function that calls others, the return of what its frame was
// charged. For that the code stands in a block of its own: a branch out of the function then ends at the block's end,
// and return becomes such a branch.
func (b *body) assemble(dst []byte, t funcType, groups uint32, declaration []byte) []byte {
	added := uint32(1)
	if b.bulk {
		added = 2
	}
	dst = appendU32(dst, groups+added)
	dst = append(dst, declaration...)
	dst = append(dst, 1, typeI64)
	if b.bulk {
		dst = append(dst, 1, typeI32)
	}

	if !b.calls {
		dst = b.appendCheckedCharge(dst, 1)
		return append(dst, b.out...) // its own end included
	}
	slot := 8
	if b.wide {
		slot = 16
	}
	stack := int64(64+slot*(b.deep+int(b.locals))) / 16
	dst = b.appendCheckedCharge(dst, 1+stack)
	dst = append(dst, opBlock)
	switch len(t.results) {
	case 0:
		dst = append(dst, typeEmpty)
	case 1:
		dst = append(dst, t.results[0])
	default:
		dst = appendS64(dst, int64(b.m.resultType(t.results)))
	}
	from := 0
	for _, ret := range b.rets {
		dst = append(dst, b.out[from:ret.at]...)
		dst = append(dst, opBr)
		dst = appendU32(dst, uint32(ret.depth))
		from = ret.at + 1
	}
	dst = append(dst, b.out[from:]...) // the end closes the block
	dst = b.appendCharge(dst, -stack)
	return append(dst, opEnd)
}

// appendCharge subtracts units without a look at what remains.
func (b *body) appendCharge(dst []byte, units int64) []byte {
	dst = append(dst, opGlobalGet)
	dst = appendU32(dst, b.fuel)
	dst = append(dst, opI64Const)
	dst = appendS64(dst, units)
	dst = append(dst, opI64Sub, opGlobalSet)
	return appendU32(dst, b.fuel)
}

// appendCheckedCharge subtracts units and traps when none remain.
func (b *body) appendCheckedCharge(dst []byte, units int64) []byte {
	dst = append(dst, opGlobalGet)
	dst = appendU32(dst, b.fuel)
	dst = append(dst, opI64Const)
	dst = appendS64(dst, units)
	return b.appendTake(dst)
}

// appendTake ends a charge: fuel and units are on the stack.
func (b *body) appendTake(dst []byte) []byte {
	dst = append(dst, opI64Sub, opLocalTee)
	dst = appendU32(dst, b.locals)
	dst = append(dst, opGlobalSet)
	dst = appendU32(dst, b.fuel)
	dst = append(dst, opLocalGet)
	dst = appendU32(dst, b.locals)
	return append(dst, opI64Const, 0, opI64LtS, opIf, typeEmpty, opUnreachable, opEnd)
}

// chargeLength charges by the length on top of the stack, shifted right, plus one; the length stays there.
func (b *body) chargeLength(shift byte) {
	b.bulk = true
	n := b.locals + 1
	b.out = appendU32(append(b.out, opLocalTee), n)
	b.out = appendU32(append(b.out, opGlobalGet), b.fuel)
	b.out = appendU32(append(b.out, opLocalGet), n)
	b.out = append(b.out, opI64ExtendI32U, opI64Const, shift, opI64ShrU, opI64Sub, opI64Const, 1)
	b.out = b.appendTake(b.out)
}

// chargePages charges for growing the memory by the pages on top of the stack.
func (b *body) chargePages() {
	b.bulk = true
	n := b.locals + 1
	b.out = appendU32(append(b.out, opLocalTee), n)
	b.out = appendU32(append(b.out, opGlobalGet), b.fuel)
	// pages <= cap ? pages : 0
	b.out = appendU32(append(b.out, opLocalGet), n)
	b.out = append(b.out, opI32Const, 0)
	b.out = appendU32(append(b.out, opLocalGet), n)
	b.out = appendS64(append(b.out, opI32Const), int64(int32(b.m.maxPages)+1))
	b.out = append(b.out, opI32LtU, opSelect)
	b.out = append(b.out, opI64ExtendI32U, opI64Const, growPageShift, opI64Shl, opI64Sub, opI64Const, 1)
	b.out = b.appendTake(b.out)
}

// cost adds an instruction to the run since the last charge and charges the run when it is long enough.
func (b *body) cost(c uint8) {
	if b.dead {
		return
	}
	if b.run += int(c); b.run >= runLength {
		b.out = b.appendCharge(b.out, int64(b.run/runLength))
		b.run %= runLength
	}
}

func (b *body) adjust(delta int) {
	b.height += delta
	if floor := b.ctrl[len(b.ctrl)-1].height; b.height < floor {
		b.height = floor
		if !b.dead {
			b.r.fail("the operand stack is short of a value")
		}
	}
}
