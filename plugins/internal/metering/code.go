package metering

import "fmt"

const (
	runLength       = 64   // instructions in a row that cost one unit
	growPageShift   = 11   // memory.grow costs 2048 units per page
	bytesShift      = 4    // bulk memory operations cost a unit per 16 bytes
	elementsShift   = 10   // table operations cost a unit per 1024 elements
	defaultMaxPages = 1024 // of Options.MaxPages

	// chunkBytes is the longest bulk memory operation that runs in one piece. Helpers take longer ones in chunks.
	chunkBytes = 2048
	// maxUnchecked is the number of units that a function charges at most without a check.
	maxUnchecked = 32
)

// path describes the most expensive way through the code to a place.
type path struct {
	run       int // 64ths of a unit that are not charged yet
	unchecked int // units that were charged after the last check
}

func (p path) join(o path) path { return path{max(p.run, o.run), max(p.unchecked, o.unchecked)} }

// frame is an entry of the control stack.
type frame struct {
	kind    byte // opBlock, opLoop, opIf or opElse; opBlock for the function itself
	label   int  // position among the rewritten labels, from the outermost on
	params  int
	results int
	height  int  // of the operand stack below the parameters
	reached bool // a branch, or the code inside, reaches the end
	end     path // to the end, if reached
	ifPath  path // to an if, where the else or the end continues
	dead    bool // entered in unreachable code
}

// body rewrites a function. In a single pass, body copies instructions, inserts charges, and follows along every path
// the cost that is not charged or not checked yet, and the height of the operand stack, from which the frame's size is
// estimated.
type body struct {
	m      *module
	r      reader
	out    []byte
	ctrl   []frame
	locals uint32 // parameters and declared locals
	wide   bool   // may use v128, with slots of 16 bytes
	bulk   bool   // needs the i32 scratch local
	calls  bool
	// constructs counts blocks, loops and ifs.
	constructs int
	labels     int // open labels after the rewriting
	effort     effort
	dead       bool
	path       path
	height     int
	maxHeight  int          // of the operand stack at a call
	returns    []returnSite // become branches to the end in a function that returns its stack charge
}

type returnSite struct {
	at    int
	depth uint32
}

// rewriteCode returns the metered body of the code section.
func (m *module) rewriteCode() ([]byte, error) {
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
	b := body{m: m}
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
	for i := range m.helpers {
		code := m.helpers[i].code(m)
		out = appendU32(out, uint32(len(code)))
		out = append(out, code...)
	}
	return append(appendU32(nil, n+uint32(len(m.helpers))), out...), r.err
}

// rewrite appends the metered function to dst.
func (b *body) rewrite(dst []byte, t funcType) ([]byte, error) {
	b.out, b.ctrl, b.returns = b.out[:0], b.ctrl[:0], b.returns[:0]
	b.wide, b.bulk, b.calls, b.dead = b.m.vectors, false, false, false
	b.effort = effort{blocks: 1}
	b.path, b.height, b.maxHeight, b.constructs, b.labels = path{}, 0, 0, 0, 1

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

	b.ctrl = append(b.ctrl, frame{kind: opBlock, results: len(t.results)})
	for len(b.ctrl) > 0 && b.r.err == nil {
		b.instruction()
	}
	if b.r.err == nil && !b.r.done() {
		b.r.fail("%d bytes after the end", len(b.r.b)-b.r.pos)
	}
	if b.r.err != nil {
		return nil, b.r.err
	}
	if err := b.checkEffort(); err != nil {
		return nil, err
	}
	return b.assemble(dst, t, groups, declaration), nil
}

// assemble joins the locals, the entry charge and the code. A function with calls also returns its part of the stack at
// the exit, charges the rest of its cost there and checks: the way back from a deep recursion may be long. For this
// purpose the code becomes a block: a branch out of the function then ends at the end of the block, and a return
// becomes such a branch. A function with loops and without calls checks at the exit instead of the entry: behind a
// check, the engine no longer has the values that the function began with in registers, and each round of a loop loads
// them.
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

	atExit := int64(0)
	switch {
	case b.calls:
		slot := 8
		if b.wide {
			slot = 16
		}
		stack := min(int64(64+slot*(b.maxHeight+int(b.locals)))/16, maxFrame)
		dst = b.m.appendSubtraction(dst, unit+stack, b.locals)
		dst = b.m.appendStackCheck(dst, b.locals)
		atExit = int64(b.path.run)*unit/runLength - stack
	case b.effort.loops > 0:
		dst = b.appendCharge(dst, unit)
	default:
		dst = b.appendCheckedCharge(dst, unit)
		return append(dst, b.out...) // with the function's end
	}
	dst = append(dst, opBlock)
	switch len(t.results) {
	case 0:
		dst = append(dst, typeEmpty)
	case 1:
		dst = append(dst, t.results[0])
	default:
		dst = appendS64(dst, int64(b.m.addType(nil, t.results)))
	}
	from := 0
	for _, ret := range b.returns {
		dst = append(dst, b.out[from:ret.at]...)
		dst = append(dst, opBr)
		dst = appendU32(dst, ret.depth)
		from = ret.at + 1
	}
	dst = append(dst, b.out[from:]...) // the function's end closes the block
	dst = b.appendCheckedCharge(dst, atExit)
	return append(dst, opEnd)
}

// appendCharge subtracts an amount from the counter without a check.
func (b *body) appendCharge(dst []byte, amount int64) []byte {
	dst = appendU32(append(dst, opGlobalGet), b.m.counter)
	dst = appendS64(append(dst, opI64Const), amount)
	return appendU32(append(dst, opI64Sub, opGlobalSet), b.m.counter)
}

// appendCheckedCharge subtracts an amount and calls the host if the rest is negative.
func (b *body) appendCheckedCharge(dst []byte, amount int64) []byte {
	return b.m.appendCheck(b.m.appendSubtraction(dst, amount, b.locals), b.locals)
}

// appendSubtraction subtracts an amount from the counter and keeps the rest in a scratch local.
func (m *module) appendSubtraction(dst []byte, amount int64, scratch uint32) []byte {
	dst = appendU32(append(dst, opGlobalGet), m.counter)
	dst = appendS64(append(dst, opI64Const), amount)
	return m.appendSubtract(dst, scratch)
}

// appendSubtract is appendSubtraction for a counter and an amount on the operand stack.
func (m *module) appendSubtract(dst []byte, scratch uint32) []byte {
	dst = appendU32(append(dst, opI64Sub, opLocalTee), scratch)
	return appendU32(append(dst, opGlobalSet), m.counter)
}

// appendCheck calls the host if the counter in the scratch local is negative.
func (m *module) appendCheck(dst []byte, scratch uint32) []byte {
	dst = appendU32(append(dst, opLocalGet), scratch)
	return m.appendYield(append(dst, opI64Const, 0, opI64LtS))
}

// appendStackCheck calls the host if the counter in the scratch local, or its part for the stack, is negative.
func (m *module) appendStackCheck(dst []byte, scratch uint32) []byte {
	dst = appendU32(append(dst, opLocalGet), scratch)
	dst = appendS64(append(dst, opI64Const), signs)
	return m.appendYield(append(dst, opI64And, opI64Const, 0, opI64Ne))
}

// appendYield calls the host if the condition on the operand stack holds.
func (m *module) appendYield(dst []byte) []byte {
	dst = append(dst, opIf, typeEmpty, opCall)
	return append(appendU32(dst, m.importedFuncs), opEnd)
}

// appendLengthCharge charges for the length in a local, shifted right, plus one unit.
func (m *module) appendLengthCharge(dst []byte, length uint32, shift byte, scratch uint32) []byte {
	dst = appendU32(append(dst, opGlobalGet), m.counter)
	dst = appendU32(append(dst, opLocalGet), length)
	dst = append(dst, opI64ExtendI32U, opI64Const, shift, opI64ShrU, opI64Const, unitShift, opI64Shl, opI64Sub)
	dst = appendS64(append(dst, opI64Const), unit)
	return m.appendCheck(m.appendSubtract(dst, scratch), scratch)
}

// chargeElements charges for the number of table elements on top of the stack, which stays there.
func (b *body) chargeElements() {
	b.bulk = true
	b.effort.blocks += 5 // of which the engine adds three
	b.out = appendU32(append(b.out, opLocalTee), b.locals+1)
	b.out = b.m.appendLengthCharge(b.out, b.locals+1, elementsShift, b.locals)
	b.path.unchecked = 0
}

// bulkMemory copies a bulk memory operation with a charge for the length on top of the stack. If the length is beyond
// chunkBytes, a helper is called instead.
func (b *body) bulkMemory(kind helperKind, segment uint32, start int) {
	b.adjust(-3)
	if b.r.err != nil {
		return
	}
	b.bulk = true
	b.effort.bulk++
	b.effort.blocks += 5
	n := b.locals + 1
	b.out = appendU32(append(b.out, opLocalTee), n)
	b.out = appendU32(append(b.out, opLocalGet), n)
	b.out = appendS64(append(b.out, opI32Const), chunkBytes)
	b.out = appendS64(append(b.out, opI32GtU, opIf), int64(b.m.addType(threeI32, nil)))
	b.out = appendU32(append(b.out, opCall), b.m.helper(kind, segment))
	b.out = append(b.out, opElse)
	b.out = b.m.appendLengthCharge(b.out, n, bytesShift, b.locals)
	b.copy(start)
	b.out = append(b.out, opEnd)
	b.path.unchecked = 0
}

// chargePages charges for growing the memory by the number of pages on top of the stack.
func (b *body) chargePages() {
	b.bulk = true
	b.effort.bulk++
	b.effort.blocks += 2
	n := b.locals + 1
	b.out = appendU32(append(b.out, opLocalTee), n)
	b.out = appendU32(append(b.out, opGlobalGet), b.m.counter)
	// pages <= maximum ? pages : 0
	b.out = appendU32(append(b.out, opLocalGet), n)
	b.out = append(b.out, opI32Const, 0)
	b.out = appendU32(append(b.out, opLocalGet), n)
	b.out = appendS64(append(b.out, opI32Const), int64(int32(b.m.maxPages)+1))
	b.out = append(b.out, opI32LtU, opSelect)
	b.out = append(b.out, opI64ExtendI32U, opI64Const, growPageShift+unitShift, opI64Shl, opI64Sub)
	b.out = appendS64(append(b.out, opI64Const), unit)
	b.out = b.m.appendCheck(b.m.appendSubtract(b.out, b.locals), b.locals)
	b.path.unchecked = 0
}

// cost adds an instruction to the run since the last charge, and charges for a run of runLength.
func (b *body) cost(c uint8) {
	if b.dead {
		return
	}
	b.path.run += int(c)
	units := b.path.run / runLength
	if units == 0 {
		return
	}
	b.path.run %= runLength
	if b.path.unchecked += units; b.path.unchecked < maxUnchecked {
		b.out = b.appendCharge(b.out, int64(units)*unit)
		return
	}
	b.out = b.appendCheckedCharge(b.out, int64(units)*unit)
	b.effort.blocks += 2
	b.path.unchecked = 0
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
