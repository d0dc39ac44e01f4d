package metering

import "fmt"

const (
	runLength       = 64   // instructions in a row that cost one unit
	growPageShift   = 11   // memory.grow costs 2048 units per page
	defaultMaxPages = 1024 // of Options.MaxPages
)

// frame is an entry of the control stack.
type frame struct {
	kind    byte // opBlock, opLoop, opIf or opElse; opBlock for the function itself
	params  int
	results int
	height  int  // of the operand stack below the parameters
	run     int  // highest uncharged cost of all branches to the end; -1: no branch reaches the end
	ifRun   int  // uncharged cost at an if, where the else or the end continues
	dead    bool // entered in unreachable code
}

// body rewrites a function. In a single pass, body copies instructions, inserts charges, and follows two numbers along
// every path: the uncharged cost of instructions, and the height of the operand stack, from which the frame's size is
// estimated.
type body struct {
	m      *module
	r      reader
	fuel   uint32
	out    []byte
	ctrl   []frame
	locals uint32 // parameters and declared locals
	wide   bool   // uses v128, with slots of 16 bytes
	bulk   bool   // needs the i32 scratch local
	calls  bool
	// constructs counts blocks, loops and ifs.
	constructs int
	dead       bool
	run        int // uncharged cost
	height     int
	maxHeight  int          // of the operand stack at a call
	returns    []returnSite // become branches to the end in a function that returns its stack charge
}

type returnSite struct{ at, depth int }

// rewriteCode returns the metered body of the code section.
func (m *module) rewriteCode(fuel uint32) ([]byte, error) {
	r := reader{b: m.code}
	out := make([]byte, 0, len(m.code)+len(m.code)/4+16)
	var n uint32
	if m.code != nil {
		n = r.u32()
	}
	defined := len(m.funcs) - int(m.importedFuncs)
	if r.err == nil && uint64(n) != uint64(defined) {
		return nil, malformed("%d functions are declared, %d have code", defined, n)
	}
	out = appendU32(out, n)
	b := body{m: m, fuel: fuel}
	var scratch []byte
	total := uint64(0)
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
		if total += uint64(b.locals); total > maxLocalsTotal {
			return nil, malformed("more than %d locals in total", maxLocalsTotal)
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
	b.out, b.ctrl, b.returns = b.out[:0], b.ctrl[:0], b.returns[:0]
	b.wide, b.bulk, b.calls, b.dead = false, false, false, false
	b.run, b.height, b.maxHeight, b.constructs = 0, 0, 0, 0

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
		if locals > maxLocals { // also keeps frame sizes far from overflow
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

// assemble joins the locals, the entry charge and the code. A function with calls also returns the charge for its frame
// at the exit. For this purpose the code becomes a block: a branch out of the function then ends at the end of the
// block, and a return becomes such a branch.
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
		return append(dst, b.out...) // with the function's end
	}
	slot := 8
	if b.wide {
		slot = 16
	}
	stack := int64(64+slot*(b.maxHeight+int(b.locals))) / 16
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
	for _, ret := range b.returns {
		dst = append(dst, b.out[from:ret.at]...)
		dst = append(dst, opBr)
		dst = appendU32(dst, uint32(ret.depth))
		from = ret.at + 1
	}
	dst = append(dst, b.out[from:]...) // the function's end closes the block
	dst = b.appendCharge(dst, -stack)
	return append(dst, opEnd)
}

// appendCharge subtracts units without a check.
func (b *body) appendCharge(dst []byte, units int64) []byte {
	dst = append(dst, opGlobalGet)
	dst = appendU32(dst, b.fuel)
	dst = append(dst, opI64Const)
	dst = appendS64(dst, units)
	dst = append(dst, opI64Sub, opGlobalSet)
	return appendU32(dst, b.fuel)
}

// appendCheckedCharge subtracts units and traps if the rest is negative.
func (b *body) appendCheckedCharge(dst []byte, units int64) []byte {
	dst = append(dst, opGlobalGet)
	dst = appendU32(dst, b.fuel)
	dst = append(dst, opI64Const)
	dst = appendS64(dst, units)
	return b.appendSubtract(dst)
}

// appendSubtract ends a charge: the fuel and the units are on the stack.
func (b *body) appendSubtract(dst []byte) []byte {
	dst = append(dst, opI64Sub, opLocalTee)
	dst = appendU32(dst, b.locals)
	dst = append(dst, opGlobalSet)
	dst = appendU32(dst, b.fuel)
	dst = append(dst, opLocalGet)
	dst = appendU32(dst, b.locals)
	return append(dst, opI64Const, 0, opI64LtS, opIf, typeEmpty, opUnreachable, opEnd)
}

// chargeLength charges for the length on top of the stack, shifted right, plus one unit. The length stays on the stack.
func (b *body) chargeLength(shift byte) {
	b.bulk = true
	n := b.locals + 1
	b.out = appendU32(append(b.out, opLocalTee), n)
	b.out = appendU32(append(b.out, opGlobalGet), b.fuel)
	b.out = appendU32(append(b.out, opLocalGet), n)
	b.out = append(b.out, opI64ExtendI32U, opI64Const, shift, opI64ShrU, opI64Sub, opI64Const, 1)
	b.out = b.appendSubtract(b.out)
}

// chargePages charges for growing the memory by the number of pages on top of the stack.
func (b *body) chargePages() {
	b.bulk = true
	n := b.locals + 1
	b.out = appendU32(append(b.out, opLocalTee), n)
	b.out = appendU32(append(b.out, opGlobalGet), b.fuel)
	// pages <= maximum ? pages : 0
	b.out = appendU32(append(b.out, opLocalGet), n)
	b.out = append(b.out, opI32Const, 0)
	b.out = appendU32(append(b.out, opLocalGet), n)
	b.out = appendS64(append(b.out, opI32Const), int64(int32(b.m.maxPages)+1))
	b.out = append(b.out, opI32LtU, opSelect)
	b.out = append(b.out, opI64ExtendI32U, opI64Const, growPageShift, opI64Shl, opI64Sub, opI64Const, 1)
	b.out = b.appendSubtract(b.out)
}

// cost adds an instruction to the run since the last charge, and charges for a run of runLength.
func (b *body) cost(c uint8) {
	if b.dead {
		return
	}
	if b.run += int(c); b.run >= runLength {
		b.out = b.appendCharge(b.out, int64(b.run/runLength))
		b.run %= runLength
	}
}

// adjust changes the height of the operand stack.
func (b *body) adjust(delta int) {
	b.height += delta
	if floor := b.ctrl[len(b.ctrl)-1].height; b.height < floor {
		b.height = floor
		if !b.dead {
			b.r.fail("the operand stack lacks a value")
		}
	}
}
