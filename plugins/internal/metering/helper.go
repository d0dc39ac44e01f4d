package metering

// helperKind is the bulk memory operation of a helper.
type helperKind uint8

const (
	helperFill helperKind = iota
	helperCopy
	helperInit
)

// helper is an added function that performs a long bulk memory operation in chunks, with a check before each. It has
// the operands and the effect of the operation: a range outside the memory traps before the first byte is written.
type helper struct {
	kind    helperKind
	segment uint32 // of memory.init
}

var threeI32 = []byte{typeI32, typeI32, typeI32}

// helper returns the index of a helper and adds the helper if necessary.
func (m *module) helper(kind helperKind, segment uint32) uint32 {
	h := helper{kind, segment}
	i, ok := m.helperIndices[h]
	if !ok {
		i = uint32(len(m.funcs)+len(m.helpers)) + 1 // behind all functions and the added import
		m.helpers = append(m.helpers, h)
		if m.helperIndices == nil {
			m.helperIndices = map[helper]uint32{}
		}
		m.helperIndices[h] = i
	}
	return i
}

// Locals of a helper.
const (
	localTo     = 0 // address that is written
	localFrom   = 1 // address or position that is read; the value of fill
	localLength = 2
	localRest   = 3 // scratch of the charges
)

// assembler builds the code of a helper.
type assembler struct {
	m *module
	b []byte
}

func (a *assembler) op(bytes ...byte) { a.b = append(a.b, bytes...) }
func (a *assembler) get(local byte)   { a.op(opLocalGet, local) }
func (a *assembler) set(local byte)   { a.op(opLocalSet, local) }

// wide pushes an i32 local as an i64.
func (a *assembler) wide(local byte) {
	a.get(local)
	a.op(opI64ExtendI32U)
}

// chunk pushes the length of a chunk.
func (a *assembler) chunk() { a.b = appendS64(append(a.b, opI32Const), chunkBytes) }

// move adds a chunk to a local, or subtracts it.
func (a *assembler) move(local, op byte) {
	a.get(local)
	a.chunk()
	a.op(op)
	a.set(local)
}

// operation performs the helper's instruction on the operands.
func (a *assembler) operation(h helper) {
	switch h.kind {
	case helperFill:
		a.op(opPrefixMisc, 11, 0)
	case helperCopy:
		a.op(opPrefixMisc, 10, 0, 0)
	case helperInit:
		a.b = append(appendU32(append(a.b, opPrefixMisc, 8), h.segment), 0)
	}
}

// whole performs the operation on all that is left.
func (a *assembler) whole(h helper) {
	a.get(localTo)
	a.get(localFrom)
	a.get(localLength)
	a.operation(h)
}

// trapIf lets the original operation trap if the condition on the operand stack holds.
func (a *assembler) trapIf(h helper) {
	a.op(opIf, typeEmpty)
	a.whole(h)
	a.op(opUnreachable, opEnd)
}

// trapOutside traps if the range that begins at a local lies outside the memory.
func (a *assembler) trapOutside(h helper, local byte) {
	a.wide(local)
	a.wide(localLength)
	a.op(opI64Add, opMemorySize, 0, opI64ExtendI32U, opI64Const, 16, opI64Shl, opI64GtU)
	a.trapIf(h)
}

// code returns the body of the helper.
func (h helper) code(m *module) []byte {
	a := &assembler{m: m}
	a.op(1, 1, typeI64)
	a.trapOutside(h, localTo)
	switch h.kind {
	case helperCopy:
		a.trapOutside(h, localFrom)
		a.op(opBlock, typeEmpty) // left by the branch for a copy towards higher addresses
		a.get(localTo)
		a.get(localFrom)
		a.op(opI32LeU, opIf, typeEmpty)
		a.upwards(h)
		a.op(opBr, 1, opEnd)
		a.downwards(h)
		a.op(opEnd)
	case helperInit:
		// No 32-bit position lies behind a segment, and an operation of no bytes traps if its position does.
		a.wide(localFrom)
		a.wide(localLength)
		a.op(opI64Add)
		a.b = appendS64(append(a.b, opI64Const), 1<<32-1)
		a.op(opI64GtU)
		a.trapIf(h)
		a.op(opI32Const, 0)
		a.get(localFrom)
		a.get(localLength)
		a.op(opI32Add, opI32Const, 0)
		a.operation(h)
		a.upwards(h)
	case helperFill:
		a.upwards(h)
	}
	a.b = m.appendLengthCharge(a.b, localLength, bytesShift, localRest)
	a.whole(h)
	a.op(opEnd)
	return a.b
}

// upwards performs the operation from the lowest address on, until a chunk or less is left.
func (a *assembler) upwards(h helper) {
	a.loop(func() {
		a.get(localTo)
		a.get(localFrom)
		a.chunk()
		a.operation(h)
		a.move(localTo, opI32Add)
		if h.kind != helperFill {
			a.move(localFrom, opI32Add)
		}
		a.move(localLength, opI32Sub)
	})
}

// downwards copies from the highest address on, so that overlapping bytes are read before they are written.
func (a *assembler) downwards(h helper) {
	a.loop(func() {
		a.move(localLength, opI32Sub)
		for _, local := range []byte{localTo, localFrom} {
			a.get(local)
			a.get(localLength)
			a.op(opI32Add)
		}
		a.chunk()
		a.operation(h)
	})
}

// loop repeats the round, which handles a chunk, while more than a chunk is left.
func (a *assembler) loop(round func()) {
	a.op(opLoop, typeEmpty)
	a.b = a.m.appendSubtraction(a.b, chunkBytes>>bytesShift*unit, localRest)
	a.b = a.m.appendCheck(a.b, localRest)
	round()
	a.get(localLength)
	a.chunk()
	a.op(opI32GtU, opBrIf, 0, opEnd)
}
