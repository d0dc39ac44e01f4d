package metering

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/edgerelay/edgerelay/plugins/internal/wasmfile"
)

var header = []byte{0, 'a', 's', 'm', 1, 0, 0, 0}

// Value types.
const (
	typeI32       = 0x7f
	typeI64       = 0x7e
	typeF32       = 0x7d
	typeF64       = 0x7c
	typeV128      = 0x7b
	typeFuncref   = 0x70
	typeExternref = 0x6f
	typeEmpty     = 0x40
)

// Kinds of imports and exports.
const (
	externFunc   = 0
	externTable  = 1
	externMemory = 2
	externGlobal = 3
)

// Limits of a module, so that decoding a large hostile module takes a bounded multiple of its size. Go's largest guests
// have some thousands of functions and locals.
const (
	maxTypeValues  = 100_000   // parameters and results of all types
	maxCount       = 100_000   // each of types, imports, functions, globals, exports, segments, names
	maxElements    = 1_000_000 // of all element segments
	maxLocals      = 50_000    // of a function
	maxLocalsTotal = 4_000_000
	maxTables      = 16
	maxValues      = 1000 // parameters, and results, of a function

	// Compilation cannot be stopped, and takes time quadratic in the number of blocks of a function: 13 s for 20,000
	// blocks. Go's encoding/json has 799.
	maxConstructs = 8192
)

// funcType is a function type. The slices point into the module.
type funcType struct{ params, results []byte }

// module is the decoded part of a module.
type module struct {
	size     int
	sections []section

	types         []funcType
	typesRaw      []byte // the encoded types, without the count
	typesAdded    []funcType
	typeIndices   map[string]uint32 // of typesAdded, by parameters and results
	importedFuncs uint32
	funcs         []uint32 // type index of every function, beginning with imported functions
	helpers       []helper // functions that the rewriter adds
	helperIndices map[helper]uint32
	globals       uint32        // imported and defined
	counter       uint32        // index of the added global
	compileTime   time.Duration // estimated
	start         uint32        // the start function
	hasStart      bool
	code          []byte
	maxPages      uint32 // of memory that the host grants
	vectors       bool   // a type or a global has v128
}

func parse(wasm []byte) (*module, error) {
	if len(wasm) < len(header) || !bytes.Equal(wasm[:4], header[:4]) {
		return nil, malformed(`it does not begin with "\0asm"; is it a .wasm file?`)
	}
	if err := wasmfile.CheckVersion(wasm); err != nil {
		return nil, malformed("%v", err)
	}
	m := &module{size: len(wasm)}
	r := reader{b: wasm, pos: len(header)}
	last := 0
	for !r.done() {
		id := r.byte()
		s := section{id: id, body: r.bytes(r.u32())}
		if r.err != nil {
			return nil, fmt.Errorf("section %d: %w", id, r.err)
		}
		if id > secDataCount {
			if id == 13 {
				return nil, errors.New("unsupported WebAssembly feature: exceptions (a tag section); build for core 2.0")
			}
			return nil, malformed("unknown section %d", id)
		}
		if id != secCustom {
			if rank(id) <= last {
				return nil, malformed("section %d is out of order or repeated", id)
			}
			last = rank(id)
		}
		if err := m.section(s); err != nil {
			return nil, fmt.Errorf("section %d: %w", id, err)
		}
	}
	if n := len(m.funcs) - int(m.importedFuncs); n > 0 && m.code == nil {
		return nil, malformed("%d functions are declared, and there is no code section", n)
	}
	return m, nil
}

// section decodes the relevant part of a section and keeps the section.
func (m *module) section(s section) error {
	r := reader{b: s.body}
	switch s.id {
	case secCustom:
		if r.name() == "name" {
			if s.body = m.names(s.body); s.body != nil {
				m.sections = append(m.sections, s)
			}
		}
		return r.err // drops other custom sections: DWARF, for example, contains positions in the code, which move
	case secType:
		n := r.count("types")
		m.typesRaw = r.b[r.pos:]
		values := 0
		for ; n > 0 && r.err == nil; n-- {
			if c := r.byte(); c != 0x60 && r.err == nil {
				return fmt.Errorf("unsupported WebAssembly feature: garbage collection (type form %#x); build for core 2.0", c)
			}
			t := funcType{params: r.valTypes(), results: r.valTypes()}
			m.types = append(m.types, t)
			if values += len(t.params) + len(t.results); values > maxTypeValues {
				return fmt.Errorf("the function types have more than %d parameters and results in total", maxTypeValues)
			}
		}
	case secImport:
		m.imports(&r)
	case secFunction:
		for n := r.count("functions"); n > 0 && r.err == nil; n-- {
			m.funcs = append(m.funcs, m.typeIndex(&r))
		}
	case secTable:
		for n := r.count("tables"); n > 0 && r.err == nil; n-- {
			r.refType()
			r.limits()
		}
	case secMemory:
		n := r.count("memories")
		if n > 1 {
			r.unsupported("several memories")
		}
		for ; n > 0 && r.err == nil; n-- {
			r.limits()
		}
	case secGlobal:
		n := r.count("globals")
		m.globals += n
		for ; n > 0 && r.err == nil; n-- {
			m.vectors = r.valType() == typeV128 || m.vectors
			if r.byte() > 1 {
				r.fail("bad mutability of a global")
			}
			r.constExpr(m.globals - n)
		}
	case secExport:
		for n := r.count("exports"); n > 0 && r.err == nil; n-- {
			if name := r.linkName(); name == CounterGlobal || name == StartExport {
				return fmt.Errorf(
					"the module exports %q, a name of the host; rename the export, "+
						"or use the original if this module is metered already",
					name,
				)
			}
			switch kind := r.byte(); kind {
			case externFunc:
				r.funcIndex()
			case externGlobal:
				if index := r.u32(); index >= m.globals {
					r.fail("an export names global %d of %d", index, m.globals)
				}
			default:
				r.u32()
			}
		}
	case secStart:
		m.start, m.hasStart = r.u32(), true
		if uint64(m.start) >= uint64(len(m.funcs)) {
			r.fail("start function %d of %d", m.start, len(m.funcs))
		} else if t := m.types[m.funcs[m.start]]; len(t.params)+len(t.results) > 0 {
			r.fail("the start function has parameters or results")
		}
	case secElement:
		m.elements(&r)
	case secDataCount:
		r.u32()
	case secData:
		m.data(&r)
	case secCode:
		m.code = s.body
		m.sections = append(m.sections, s)
		return nil // decoded by rewriteCode
	}
	if r.err == nil && !r.done() {
		r.fail("%d bytes too many", len(r.b)-r.pos)
	}
	s.funcs = r.funcs
	m.sections = append(m.sections, s)
	return r.err
}

func (m *module) imports(r *reader) {
	for n := r.count("imports"); n > 0 && r.err == nil; n-- {
		if name := r.linkName(); name == HostModule {
			r.err = fmt.Errorf("the module imports from %q, a name of the host; "+
				"use the original if this module is metered already", name)
		}
		r.linkName()
		switch kind := r.byte(); kind {
		case externFunc:
			m.funcs = append(m.funcs, m.typeIndex(r))
			m.importedFuncs++
		case externTable:
			r.refType()
			r.limits()
		case externMemory:
			r.limits()
		case externGlobal:
			m.vectors = r.valType() == typeV128 || m.vectors
			r.byte()
			m.globals++
		default:
			r.fail("unknown kind of import %d", kind)
		}
	}
}

func (m *module) typeIndex(r *reader) uint32 {
	i := r.u32()
	if uint64(i) >= uint64(len(m.types)) {
		r.fail("type %d of %d", i, len(m.types))
		return 0
	}
	return i
}

// typeSection returns the types of the module and of the rewritten code.
func (m *module) typeSection() []byte {
	b := appendU32(nil, uint32(len(m.types)+len(m.typesAdded)))
	b = append(b, m.typesRaw...)
	for _, t := range m.typesAdded {
		b = appendU32(append(b, 0x60), uint32(len(t.params)))
		b = append(b, t.params...)
		b = appendU32(b, uint32(len(t.results)))
		b = append(b, t.results...)
	}
	return b
}

// addType returns the index of an added type.
func (m *module) addType(params, results []byte) uint32 {
	key := string(params) + ">" + string(results)
	i, ok := m.typeIndices[key]
	if !ok {
		i = uint32(len(m.types) + len(m.typesAdded))
		m.typesAdded = append(m.typesAdded, funcType{params: params, results: results})
		if m.typeIndices == nil {
			m.typeIndices = map[string]uint32{}
		}
		m.typeIndices[key] = i
	}
	return i
}

// shifted returns a function's index after the rewriting. The added import comes after the module's own imports, so
// all defined functions move by one. No index of the input becomes the import's, and an invalid index stays invalid.
func (m *module) shifted(i uint32) uint32 {
	if i >= m.importedFuncs && i < math.MaxUint32 {
		return i + 1
	}
	return i
}

// tableSection returns the tables with their maxima lowered to limit.
func (m *module) tableSection(body []byte, limit uint32) ([]byte, error) {
	if limit == 0 {
		return body, nil
	}
	r := reader{b: body} // checked by section
	n := r.u32()
	if n > maxTables {
		return nil, fmt.Errorf("%d tables, more than %d", n, maxTables)
	}
	out := appendU32(nil, n)
	for ; n > 0; n-- {
		t := r.refType()
		low, high, bounded := r.limits()
		if low > limit {
			return nil, fmt.Errorf("a table of %d elements is larger than the limit of %d", low, limit)
		}
		if !bounded || high > limit {
			high = limit
		}
		out = append(out, t, 1)
		out = appendU32(out, low)
		out = appendU32(out, high)
	}
	return out, nil
}
