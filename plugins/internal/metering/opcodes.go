package metering

// Opcodes that the rewriter treats by name.
const (
	opUnreachable   = 0x00
	opBlock         = 0x02
	opLoop          = 0x03
	opIf            = 0x04
	opElse          = 0x05
	opEnd           = 0x0b
	opBr            = 0x0c
	opBrIf          = 0x0d
	opBrTable       = 0x0e
	opReturn        = 0x0f
	opCall          = 0x10
	opCallIndirect  = 0x11
	opSelect        = 0x1b
	opSelectT       = 0x1c
	opLocalGet      = 0x20
	opLocalSet      = 0x21
	opLocalTee      = 0x22
	opGlobalGet     = 0x23
	opGlobalSet     = 0x24
	opTableGet      = 0x25
	opTableSet      = 0x26
	opMemorySize    = 0x3f
	opMemoryGrow    = 0x40
	opI32Const      = 0x41
	opI64Const      = 0x42
	opF32Const      = 0x43
	opF64Const      = 0x44
	opI32LtU        = 0x49
	opI32GtU        = 0x4b
	opI32LeU        = 0x4d
	opI64Ne         = 0x52
	opI64LtS        = 0x53
	opI64GtU        = 0x56
	opI32Add        = 0x6a
	opI32Sub        = 0x6b
	opI64Add        = 0x7c
	opI64Sub        = 0x7d
	opI64And        = 0x83
	opI64Shl        = 0x86
	opI64ShrU       = 0x88
	opI64ExtendI32U = 0xad
	opRefNull       = 0xd0
	opRefIsNull     = 0xd1
	opRefFunc       = 0xd2
	opPrefixMisc    = 0xfc
	opPrefixSIMD    = 0xfd

	simdConst = 0x0c
)

// imm is the kind of an opcode's immediates.
type imm uint8

const (
	immBad    imm = iota // not an opcode of core 2.0
	immNone              //
	immOwn               // read by instruction
	immMemory            // a memory argument
	immLane              // one byte
	immMemoryLane
	imm16 // sixteen bytes
	immI32
	immI64
	immF32
	immF64
)

// opcode describes an instruction: immediates, change of the operand stack's height, cost in 64ths of a unit.
type opcode struct {
	imm   imm
	delta int8
	cost  uint8
}

var (
	plain [256]opcode // one-byte opcodes
	simd  [256]opcode // after 0xfd
)

// span describes an inclusive range of opcodes.
type span struct {
	from, to int
	op       opcode
}

func init() {
	fill := func(table *[256]opcode, spans []span) {
		for _, s := range spans {
			for i := s.from; i <= s.to; i++ {
				table[i] = s.op
			}
		}
	}
	unary, binary := opcode{immNone, 0, 1}, opcode{immNone, -1, 1}
	own := func(delta int8, cost uint8) opcode { return opcode{immOwn, delta, cost} }
	fill(&plain, []span{
		{0x00, 0x00, own(0, 0)},
		{0x01, 0x01, opcode{immNone, 0, 0}}, // unreachable, nop
		{0x02, 0x05, own(0, 0)},
		{0x0b, 0x0f, own(0, 1)}, // block loop if else; end br br_if br_table return
		{0x10, 0x10, own(0, 2)},
		{0x11, 0x11, own(0, 4)}, // call, call_indirect
		{0x1a, 0x1a, opcode{immNone, -1, 0}},
		{0x1b, 0x1b, opcode{immNone, -2, 1}},
		{0x1c, 0x1c, own(-2, 1)}, // drop, select
		{0x20, 0x20, own(1, 1)},
		{0x21, 0x21, own(-1, 1)},
		{0x22, 0x22, own(0, 1)}, // local.*
		{0x23, 0x23, own(1, 1)},
		{0x24, 0x24, own(-1, 1)}, // global.*
		{0x25, 0x25, own(0, 2)},
		{0x26, 0x26, own(-2, 2)}, // table.get, table.set
		{0x28, 0x35, opcode{immMemory, 0, 2}},
		{0x36, 0x3e, opcode{immMemory, -2, 2}},
		{0x3f, 0x3f, opcode{immLane, 1, 1}},
		{0x40, 0x40, own(0, 2)}, // memory.size, memory.grow
		{0x41, 0x41, opcode{immI32, 1, 1}},
		{0x42, 0x42, opcode{immI64, 1, 1}},
		{0x43, 0x43, opcode{immF32, 1, 1}},
		{0x44, 0x44, opcode{immF64, 1, 1}},
		{0x45, 0x45, unary},
		{0x46, 0x4f, binary},
		{0x50, 0x50, unary},
		{0x51, 0x66, binary}, // comparisons
		{0x67, 0x69, unary},
		{0x6a, 0x78, binary},
		{0x6d, 0x70, opcode{immNone, -1, 16}}, // i32; div and rem are expensive
		{0x79, 0x7b, unary},
		{0x7c, 0x8a, binary},
		{0x7f, 0x82, opcode{immNone, -1, 16}}, // i64
		{0x8b, 0x90, unary},
		{0x91, 0x91, opcode{immNone, 0, 16}},
		{0x92, 0x98, binary},
		{0x95, 0x95, opcode{immNone, -1, 16}}, // f32
		{0x99, 0x9e, unary},
		{0x9f, 0x9f, opcode{immNone, 0, 16}},
		{0xa0, 0xa6, binary},
		{0xa3, 0xa3, opcode{immNone, -1, 16}}, // f64
		{0xa7, 0xc4, unary},                   // conversions, sign extension
		{0xd0, 0xd0, own(1, 1)},
		{0xd1, 0xd1, unary},
		{0xd2, 0xd2, own(1, 1)}, // ref.null, ref.is_null, ref.func
		{0xfc, 0xfd, own(0, 0)},
	})

	load, store := opcode{immMemory, 0, 2}, opcode{immMemory, -2, 2}
	one, two := opcode{immNone, 0, 2}, opcode{immNone, -1, 2}
	extract, replace := opcode{immLane, 0, 2}, opcode{immLane, -1, 2}
	fill(&simd, []span{
		{0x00, 0x0a, load},
		{0x0b, 0x0b, store},
		{0x0c, 0x0c, opcode{imm16, 1, 2}},
		{0x0d, 0x0d, opcode{imm16, -1, 2}},
		{0x0e, 0x0e, two},
		{0x0f, 0x14, one}, // swizzle, splat
		{0x15, 0x16, extract},
		{0x17, 0x17, replace},
		{0x18, 0x19, extract},
		{0x1a, 0x1a, replace},
		{0x1b, 0x1b, extract},
		{0x1c, 0x1c, replace},
		{0x1d, 0x1d, extract},
		{0x1e, 0x1e, replace},
		{0x1f, 0x1f, extract},
		{0x20, 0x20, replace},
		{0x21, 0x21, extract},
		{0x22, 0x22, replace},
		{0x23, 0x4c, two},
		{0x4d, 0x4d, one},
		{0x4e, 0x51, two},
		{0x52, 0x52, opcode{immNone, -2, 2}},
		{0x53, 0x53, one}, // comparisons, bits
		{0x54, 0x57, opcode{immMemoryLane, -1, 2}},
		{0x58, 0x5b, opcode{immMemoryLane, -2, 2}},
		{0x5c, 0x5d, load},
		{0x5e, 0x5f, one},
		{0x60, 0x64, one},
		{0x65, 0x66, two},
		{0x67, 0x6a, one},
		{0x6b, 0x73, two},
		{0x74, 0x75, one},
		{0x76, 0x79, two},
		{0x7a, 0x7a, one},
		{0x7b, 0x7b, two},
		{0x7c, 0x7f, one}, // i8x16
		{0x80, 0x81, one},
		{0x82, 0x82, two},
		{0x83, 0x84, one},
		{0x85, 0x86, two},
		{0x87, 0x8a, one},
		{0x8b, 0x93, two},
		{0x94, 0x94, one},
		{0x95, 0x99, two},
		{0x9b, 0x9f, two}, // i16x8
		{0xa0, 0xa1, one},
		{0xa3, 0xa4, one},
		{0xa7, 0xaa, one},
		{0xab, 0xae, two},
		{0xb1, 0xb1, two},
		{0xb5, 0xba, two},
		{0xbc, 0xbf, two}, // i32x4
		{0xc0, 0xc1, one},
		{0xc3, 0xc4, one},
		{0xc7, 0xca, one},
		{0xcb, 0xce, two},
		{0xd1, 0xd1, two},
		{0xd5, 0xdf, two}, // i64x2
		{0xe0, 0xe1, one},
		{0xe3, 0xe3, opcode{immNone, 0, 16}},
		{0xe4, 0xeb, two},
		{0xe7, 0xe7, opcode{immNone, -1, 16}}, // f32x4
		{0xec, 0xed, one},
		{0xef, 0xef, opcode{immNone, 0, 16}},
		{0xf0, 0xf7, two},
		{0xf3, 0xf3, opcode{immNone, -1, 16}}, // f64x2
		{0xf8, 0xff, one},                     // conversions
	})
}

// feature returns the name of the proposal that an unknown opcode belongs to.
func feature(op byte) string {
	switch {
	case op >= 0x06 && op <= 0x0a, op == 0x18, op == 0x19, op == 0x1f:
		return "exceptions"
	case op == 0x12, op == 0x13:
		return "tail calls"
	case op == 0x14, op == 0x15, op >= 0xd3 && op <= 0xd6:
		return "typed function references"
	case op == 0xfb:
		return "garbage collection"
	case op == 0xfe:
		return "threads"
	}
	return "unknown"
}
