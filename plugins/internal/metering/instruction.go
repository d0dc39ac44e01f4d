package metering

import "fmt"

// instruction copies the next instruction, inserts charges where due, and follows the effect on the operand stack.
func (b *body) instruction() {
	r := &b.r
	start := r.pos
	op := r.byte()
	d := plain[op]
	if d.imm == immBad && r.err == nil {
		r.unsupported(fmt.Sprintf("%s (opcode %#x)", feature(op), op))
		return
	}
	b.cost(d.cost) // before the copy, so that a charge precedes its instruction
	if d.imm != immOwn {
		b.immediate(d.imm)
		b.adjust(int(d.delta))
		b.copy(start)
		return
	}
	switch op {
	case opUnreachable:
		b.copy(start)
		b.markDead()
	case opBlock, opLoop, opIf:
		b.enter(op, start)
	case opElse:
		b.otherwise(start)
	case opEnd:
		b.leave(start)
	case opBr:
		b.out = appendU32(append(b.out, opBr), b.branch(r.u32()))
		b.markDead()
	case opBrIf:
		b.adjust(-1)
		b.effort.blocks++
		b.out = appendU32(append(b.out, opBrIf), b.branch(r.u32()))
	case opBrTable:
		b.adjust(-1)
		n := r.u32()
		b.out = appendU32(append(b.out, opBrTable), n)
		b.effort.targets += int(min(n, uint32(len(r.b)))) + 1
		for i := uint32(0); i <= n && r.err == nil; i++ {
			b.out = appendU32(b.out, b.branch(r.u32()))
			if i == n {
				break // i++ would overflow if n is the largest uint32
			}
		}
		b.markDead()
	case opReturn:
		depth := b.branch(uint32(len(b.ctrl) - 1))
		b.returns = append(b.returns, returnSite{at: len(b.out), depth: depth})
		b.copy(start)
		b.markDead()
	case opCall:
		i := r.u32()
		if uint64(i) >= uint64(len(b.m.funcs)) {
			r.fail("call of function %d of %d", i, len(b.m.funcs))
			return
		}
		b.call(b.m.types[b.m.funcs[i]])
		b.out = appendU32(append(b.out, opCall), b.m.shifted(i))
	case opCallIndirect:
		t := b.m.typeIndex(r)
		r.u32() // the table
		if r.err != nil {
			return
		}
		b.adjust(-1)
		b.call(b.m.types[t])
		b.copy(start)
	case opSelectT:
		if r.u32() != 1 {
			r.fail("select of other than one type")
		}
		if r.valType() == typeV128 {
			b.wide = true
		}
		b.adjust(-2)
		b.copy(start)
	case opLocalGet, opLocalSet, opLocalTee:
		if i := r.u32(); i >= b.locals {
			r.fail("local %d of %d", i, b.locals)
		}
		b.adjust(int(d.delta))
		b.copy(start)
	case opGlobalGet, opGlobalSet:
		if i := r.u32(); i >= b.m.globals {
			r.fail("global %d of %d", i, b.m.globals)
		}
		b.adjust(int(d.delta))
		b.copy(start)
	case opTableGet, opTableSet:
		r.u32()
		b.adjust(int(d.delta))
		b.copy(start)
	case opRefFunc:
		i := r.u32()
		b.adjust(int(d.delta))
		b.out = appendU32(append(b.out, opRefFunc), b.m.shifted(i))
	case opRefNull:
		r.refType()
		b.adjust(1)
		b.copy(start)
	case opMemoryGrow:
		r.byte()
		b.chargePages()
		b.copy(start)
	case opPrefixMisc:
		b.misc(start)
	case opPrefixSIMD:
		b.vector(start)
	}
}

// copy appends the unchanged instruction from start to the reader's position.
func (b *body) copy(start int) {
	if b.r.err == nil {
		b.out = append(b.out, b.r.b[start:b.r.pos]...)
	}
}

// immediate skips the immediates of an opcode.
func (b *body) immediate(k imm) {
	r := &b.r
	switch k {
	case immMemory, immMemoryLane:
		b.effort.accesses++
		if r.u32() >= 32 {
			r.fail("bad alignment; several memories are not supported")
		}
		r.u32()
		if k == immMemoryLane {
			r.byte()
		}
	case immLane:
		r.byte()
	case imm16:
		r.bytes(16)
	case immI32:
		r.skipLEB(5)
	case immI64:
		r.skipLEB(10)
	case immF32:
		r.bytes(4)
	case immF64:
		r.bytes(8)
	}
}

// misc handles the prefix 0xfc: saturating conversions, bulk memory, tables.
func (b *body) misc(start int) {
	r := &b.r
	sub := r.u32()
	switch {
	case sub <= 7: // trunc_sat
		b.cost(1)
	case sub == 8: // memory.init
		segment := r.u32()
		r.byte()
		b.bulkMemory(helperInit, segment, start)
		return
	case sub == 9, sub == 13: // data.drop, elem.drop
		b.cost(2)
		r.u32()
	case sub == 10: // memory.copy
		r.byte()
		r.byte()
		b.bulkMemory(helperCopy, 0, start)
		return
	case sub == 11: // memory.fill
		r.byte()
		b.bulkMemory(helperFill, 0, start)
		return
	case sub == 12, sub == 14: // table.init, table.copy
		r.u32()
		r.u32()
		b.chargeElements()
		b.adjust(-3)
	case sub == 15: // table.grow
		r.u32()
		b.chargeElements()
		b.adjust(-1)
	case sub == 16: // table.size
		b.cost(1)
		r.u32()
		b.adjust(1)
	case sub == 17: // table.fill
		r.u32()
		b.chargeElements()
		b.adjust(-3)
	default:
		r.unsupported(fmt.Sprintf("opcode 0xfc %d", sub))
	}
	b.copy(start)
}

// vector handles the prefix 0xfd.
func (b *body) vector(start int) {
	sub := b.r.u32()
	if sub > 0xff || simd[sub].imm == immBad {
		b.r.unsupported(fmt.Sprintf("relaxed SIMD or unknown (opcode 0xfd %#x)", sub))
		return
	}
	b.wide = true
	b.cost(simd[sub].cost)
	b.immediate(simd[sub].imm)
	b.adjust(int(simd[sub].delta))
	b.copy(start)
}

// call follows the effect of a call.
// See docs/decisions/plugins.md#why-is-a-stack-frame-lent-rather-than-spent
func (b *body) call(t funcType) {
	b.adjust(-len(t.params))
	b.effort.calls++
	b.effort.passed += len(t.params) + len(t.results)
	if !b.dead {
		b.calls = true
		b.maxHeight = max(b.maxHeight, b.height+max(len(t.params), len(t.results)))
	}
	b.adjust(len(t.results))
}

// markDead marks the code up to the end of the construct as unreachable.
func (b *body) markDead() {
	b.dead = true
	b.height = b.ctrl[len(b.ctrl)-1].height
}

// branch records a branch to the label of an enclosing construct, and returns the label after the rewriting.
func (b *body) branch(depth uint32) uint32 {
	if uint64(depth) >= uint64(len(b.ctrl)) {
		b.r.fail("branch out of %d constructs of %d", depth, len(b.ctrl))
		return 0
	}
	f := &b.ctrl[len(b.ctrl)-1-int(depth)]
	if f.kind != opLoop && !b.dead {
		f.reach(b.path)
	}
	b.effort.values += b.height
	return uint32(b.labels - 1 - f.label)
}

// enter begins a block, loop or if.
func (b *body) enter(op byte, start int) {
	r := &b.r
	f := frame{kind: op, label: b.labels, dead: b.dead}
	var params []byte
	if b.constructs++; b.constructs > maxConstructs {
		r.fail("more than %d blocks, loops and ifs in one function", maxConstructs)
		return
	}
	switch c := r.byte(); {
	case c == typeEmpty:
	case c&0xc0 == 0x40: // a single negative byte: a value type
		one := reader{b: []byte{c}}
		if one.valType(); one.err != nil {
			r.fail("unknown block type %#x", c)
		}
		f.results = 1
	default:
		r.pos-- // a non-negative s33
		i := uint64(0)
		for shift := 0; ; shift += 7 {
			c := r.byte()
			i |= uint64(c&0x7f) << shift
			if c < 0x80 {
				if c&0x40 != 0 {
					r.fail("negative block type")
				}
				break
			}
			if shift == 28 {
				r.fail("block type too long")
				break
			}
		}
		if r.err == nil && i >= uint64(len(b.m.types)) {
			r.fail("block type %d of %d", i, len(b.m.types))
		}
		if r.err == nil {
			params = b.m.types[i].params
			f.params, f.results = len(params), len(b.m.types[i].results)
		}
	}
	if r.err != nil {
		return
	}
	if op == opIf {
		b.adjust(-1)
		b.cost(1)
		f.ifPath = b.path
	}
	b.adjust(-f.params)
	f.height = b.height
	b.height += f.params
	b.effort.blocks += 2
	b.effort.values += b.height
	b.effort.passed += f.params + f.results
	if op == opLoop {
		b.effort.loops++
		b.effort.blocks += 2
		f.label++
		b.enterLoop(start, params)
		b.path = path{}
	} else {
		b.copy(start)
		b.labels++
	}
	b.ctrl = append(b.ctrl, f)
}

// enterLoop begins a loop. The check of its rounds leaves a block if the slice is spent. Behind the block, leaveLoop
// adds the call of the host and repeats the round:
//
//	block loop block  charge  br_if 0  block … the body … end  br 2  end  call  br 0  end end
//
// So the engine puts the call behind the loop's code. An "if" in the code would cost a jump in every round. The
// innermost block is there for validation: the body must leave exactly the loop's results.
func (b *body) enterLoop(start int, params []byte) {
	blockType := b.r.b[start+1 : b.r.pos]
	b.out = append(append(b.out, opBlock), blockType...)
	b.copy(start)
	b.out = append(b.out, opBlock)
	if len(params) == 0 {
		b.out = append(b.out, typeEmpty)
	} else {
		b.out = appendS64(b.out, int64(b.m.addType(params, params)))
	}
	b.out = b.m.appendSubtraction(b.out, unit, b.locals)
	b.out = appendU32(append(b.out, opLocalGet), b.locals)
	b.out = append(b.out, opI64Const, 0, opI64LtS, opBrIf, 0)
	b.out = append(append(b.out, opBlock), blockType...)
	b.labels += loopLabels
}

// loopLabels is the number of labels of a rewritten loop. The loop's own label is the second one.
const loopLabels = 4

// leaveLoop ends a loop.
func (b *body) leaveLoop() {
	b.out = append(b.out, opEnd, opBr, 2, opEnd, opCall)
	b.out = appendU32(b.out, b.m.importedFuncs)
	b.out = b.appendCharge(b.out, -unit) // the round that is repeated
	b.out = append(b.out, opBr, 0, opEnd, opEnd)
	b.labels -= loopLabels
}

// otherwise begins an else.
func (b *body) otherwise(start int) {
	f := &b.ctrl[len(b.ctrl)-1]
	if f.kind != opIf {
		b.r.fail("else without if")
		return
	}
	b.endRun(f)
	f.kind = opElse
	b.dead, b.path = f.dead, f.ifPath
	b.height = f.height + f.params
	b.copy(start)
}

// leave ends a block, loop, if or function.
func (b *body) leave(start int) {
	f := &b.ctrl[len(b.ctrl)-1]
	b.endRun(f)
	if f.kind == opIf && !f.dead {
		f.reach(f.ifPath) // the condition may have been false
	}
	b.dead = f.dead || !f.reached
	b.path = f.end
	b.height = f.height + f.results
	if f.kind == opLoop {
		b.leaveLoop()
	} else {
		b.copy(start)
		b.labels--
	}
	b.ctrl = b.ctrl[:len(b.ctrl)-1]
}

// endRun ends a reachable run of code at the end of a construct.
func (b *body) endRun(f *frame) {
	if b.dead {
		return
	}
	if b.height != f.height+f.results {
		b.r.fail("a block ends with %d values instead of %d", b.height-f.height, f.results)
	}
	f.reach(b.path)
}

// reach records a way to the construct's end.
func (f *frame) reach(p path) { f.reached, f.end = true, f.end.join(p) }
