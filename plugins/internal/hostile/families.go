// Package hostile has families of small modules that are expensive to compile or to load, for the tests of the plugin
// host. Each family grows with its parameters. Its tests bound what every kind of hostile module can cost: the time and
// the memory of loading, the time of a call, and how long other groups wait meanwhile.
package hostile

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Module is a module of hostile functions, with the exports of a plugin that passes each event.
type Module struct {
	// Types are the function types, of which the functions have the first. Default: a type without parameters and
	// results.
	Types [][]byte
	// Bodies are the functions' locals and code.
	Bodies [][]byte
	// Pages is the size of the memory, at the start and at most. Default: 1.
	Pages int
	// Imports, Tables, Globals, Exports, Elements and Data are entries of the sections of these names.
	Imports, Tables, Globals, Exports, Elements, Data [][]byte
	// Event is the body of ev_on_event. Default: it passes the event.
	Event []byte
	// Start makes the first function the start function.
	Start bool
	// Custom follows the last section.
	Custom []byte
}

const (
	i32 = 0x7f
	i64 = 0x7e
	end = 0x0b
)

// Wasm encodes the module.
func (m Module) Wasm() []byte {
	if m.Types == nil {
		m.Types = [][]byte{FuncType(0, 0)}
	}
	if m.Pages == 0 {
		m.Pages = 1
	}
	if m.Event == nil {
		m.Event = []byte{0, 0x42, 0, end}
	}
	own, types := len(m.Bodies), len(m.Types)
	imported := len(m.Imports)
	functions := slices.Repeat([][]byte{{0}}, own)
	exports := slices.Concat(m.Exports, [][]byte{export("memory", 2, 0)})
	for i, f := range []struct {
		name string
		typ  []byte
		body []byte
	}{
		{"ev_abi_version", FuncType(0, 1), []byte{0, 0x41, 1, end}},
		{"ev_buffer", FuncType(1, 1), []byte{0, 0x41, 8, end}},
		{"ev_on_event", []byte{0x60, 2, i32, i32, 1, i64}, m.Event},
	} {
		m.Types = append(slices.Clip(m.Types), f.typ)
		functions = append(functions, leb(types+i))
		m.Bodies = append(slices.Clip(m.Bodies), f.body)
		exports = append(exports, export(f.name, 0, imported+own+i))
	}
	code := make([][]byte, len(m.Bodies))
	for i, b := range m.Bodies {
		code[i] = slices.Concat(leb(len(b)), b)
	}
	var start []byte
	if m.Start {
		start = section(8, leb(imported))
	}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		list(1, m.Types), list(2, m.Imports), list(3, functions), list(4, m.Tables),
		list(5, [][]byte{slices.Concat([]byte{1}, leb(m.Pages), leb(m.Pages))}),
		list(6, m.Globals), list(7, exports), start, list(9, m.Elements), list(10, code), list(11, m.Data), m.Custom)
}

// leb encodes an unsigned number as WebAssembly does.
func leb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// section encodes a section of a module.
func section(id byte, content ...[]byte) []byte {
	body := bytes.Join(content, nil)
	return slices.Concat([]byte{id}, leb(len(body)), body)
}

// list encodes a section of entries, if there are any.
func list(id byte, entries [][]byte) []byte {
	if len(entries) == 0 {
		return nil
	}
	return section(id, leb(len(entries)), bytes.Join(entries, nil))
}

// vector encodes a vector of equal items.
func vector(n int, item ...byte) []byte { return append(leb(n), bytes.Repeat(item, n)...) }

func export(name string, kind byte, index int) []byte {
	return slices.Concat(leb(len(name)), []byte(name), []byte{kind}, leb(index))
}

// FuncType encodes a function type of numbers.
func FuncType(params, results int) []byte {
	return slices.Concat([]byte{0x60}, vector(params, i32), vector(results, i32))
}

// function returns a body with i32 locals and code, to which it adds the end.
func function(locals int, code ...[]byte) []byte {
	return slices.Concat([]byte{1}, leb(locals), []byte{i32}, bytes.Join(code, nil), []byte{end})
}

// Repeated repeats instructions that leave the stack as it is in a function.
func Repeated(n int, code ...byte) []byte {
	return Module{Bodies: [][]byte{function(1, bytes.Repeat(code, n))}}.Wasm()
}

// Trap is a body that traps.
var Trap = []byte{0, 0x00, end}

// LocalsInLoops sets many locals in the innermost of many nested loops.
func LocalsInLoops(locals, loops int) []byte {
	code := bytes.Repeat([]byte{0x03, 0x40}, loops)
	for l := range locals {
		code = binary.AppendUvarint(append(code, 0x20), uint64(l))
		code = binary.AppendUvarint(append(code, 0x41, 1, 0x6a, 0x21), uint64(l))
	}
	// Again, if the first local is not 0.
	return Module{Bodies: [][]byte{function(locals, code, bytes.Repeat([]byte{0x20, 0, 0x0d, 0, end}, loops))}}.Wasm()
}

// WideBranches has a br_table with many targets that passes many values.
func WideBranches(targets, values int) []byte {
	return Module{
		Types: [][]byte{FuncType(0, 0), FuncType(0, values)},
		Bodies: [][]byte{function(1,
			[]byte{0x02, 1}, bytes.Repeat([]byte{0x41, 1}, values), []byte{0x41, 0, 0x0e}, vector(targets, 0), []byte{0, end},
			bytes.Repeat([]byte{0x1a}, values))},
	}.Wasm()
}

// LongResults has functions that pass on long lists of results.
func LongResults(functions, values, calls int) []byte {
	var code []byte
	for v := range values {
		code = binary.AppendUvarint(append(code, 0x20), uint64(v))
	}
	code = slices.Concat([]byte{0}, code, bytes.Repeat([]byte{0x10, 0}, calls), []byte{end})
	return Module{Types: [][]byte{FuncType(values, values)}, Bodies: slices.Repeat([][]byte{code}, functions)}.Wasm()
}

// LiveValues keeps many values alive over many conditionals.
func LiveValues(values, conditionals int) []byte {
	var code []byte
	for v := range values {
		code = append(binary.AppendUvarint(append(code, 0x20), uint64(v)), 0x41, 3, 0x6a)
	}
	return Module{Bodies: [][]byte{function(values, code, bytes.Repeat([]byte{0x41, 1, 0x04, 0x40, end}, conditionals),
		bytes.Repeat([]byte{0x1a}, values))}}.Wasm()
}

// DeepBlocks has deeply nested blocks.
func DeepBlocks(depth int) []byte {
	return Module{Bodies: [][]byte{
		function(1, bytes.Repeat([]byte{0x02, 0x40}, depth), bytes.Repeat([]byte{end}, depth)),
	}}.Wasm()
}

// GlobalsAcrossCalls calls often in a module of many globals.
func GlobalsAcrossCalls(globals, calls int) []byte {
	code := make([]byte, 0, 8*globals)
	for g := range globals {
		code = binary.AppendUvarint(append(code, 0x23), uint64(g))
		code = binary.AppendUvarint(append(code, 0x24), uint64(g))
	}
	return Module{
		Globals: slices.Repeat([][]byte{{i32, 1, 0x41, 0, end}}, globals),
		Bodies:  [][]byte{function(1, code, bytes.Repeat([]byte{0x10, 0}, calls))},
	}.Wasm()
}

// ManyFunctions has many functions with many locals each.
func ManyFunctions(functions, locals int) []byte {
	return Module{Bodies: slices.Repeat([][]byte{function(locals)}, functions)}.Wasm()
}

// ManyTypes has many types with many parameters and results each.
func ManyTypes(types, values int) []byte {
	return Module{Types: slices.Repeat([][]byte{FuncType(values, values)}, types)}.Wasm()
}

// ManyExports exports a function under many names, each of length bytes at least.
func ManyExports(exports, length int) []byte {
	m := Module{Bodies: [][]byte{function(0)}}
	for i := range exports {
		name := binary.LittleEndian.AppendUint32(nil, uint32(i))
		for b := range name {
			name[b] = 'a' + name[b]&15
		}
		name = append(name, 'a'+byte(i>>4)&15, 'a'+byte(i>>12)&15)
		m.Exports = append(m.Exports, export(string(name)+string(bytes.Repeat([]byte{'n'}, length)), 0, 0))
	}
	return m.Wasm()
}

// ManyImports imports a function of the host many times.
func ManyImports(imports int) []byte {
	return Module{
		Types:   [][]byte{{0x60, 3, i32, i32, i32, 0}},
		Imports: slices.Repeat([][]byte{slices.Concat([]byte("\x03ev1\x03log"), []byte{0, 0})}, imports),
	}.Wasm()
}

// LongImports imports functions of the host that do not exist, under names of length bytes each.
func LongImports(imports, length int) []byte {
	name := string(bytes.Repeat([]byte("\u00e9"), length/2))
	one := slices.Concat([]byte("\x03ev1"), leb(len(name)), []byte(name), []byte{0, 0})
	return Module{Imports: slices.Repeat([][]byte{one}, imports)}.Wasm()
}

// WideImports imports a function of the host many times, with as many parameters and results as a function may have.
func WideImports(imports, values int) []byte {
	return Module{
		Types:   [][]byte{FuncType(values, values)},
		Imports: slices.Repeat([][]byte{[]byte("\x03ev1\x03log\x00\x00")}, imports),
	}.Wasm()
}

// VectorGlobals has many globals of vectors.
func VectorGlobals(globals int) []byte {
	one := slices.Concat([]byte{0x7b, 1, 0xfd, 12}, make([]byte, 16), []byte{end})
	return Module{Globals: slices.Repeat([][]byte{one}, globals)}.Wasm()
}

// LocalsInConditionals sets many locals in many conditionals, which are nested or follow each other.
func LocalsInConditionals(locals, conditionals int, nested bool) []byte {
	one := []byte{0x20, 0, 0x04, 0x40}
	for l := range locals {
		one = binary.AppendUvarint(append(one, 0x41, 1, 0x21), uint64(l))
	}
	ends := bytes.Repeat([]byte{end}, conditionals)
	if !nested {
		one, ends = append(one, end), nil
	}
	return Module{Bodies: [][]byte{function(locals, bytes.Repeat(one, conditionals), ends)}}.Wasm()
}

// LoopsOfValues passes many values into nested loops, and out of them again.
func LoopsOfValues(loops, values int) []byte {
	return Module{
		Types: [][]byte{FuncType(0, 0), FuncType(values, values)},
		Bodies: [][]byte{function(0, bytes.Repeat([]byte{0x41, 1}, values), bytes.Repeat([]byte{0x03, 1}, loops),
			bytes.Repeat([]byte{end}, loops), bytes.Repeat([]byte{0x1a}, values))},
	}.Wasm()
}

// WithTable repeats instructions in a function of a module with a table.
func WithTable(n int, code ...byte) []byte {
	return Module{
		Tables: [][]byte{{0x70, 0, 10}}, Bodies: [][]byte{function(1, bytes.Repeat(code, n))},
	}.Wasm()
}

// DataSegments has segments of size bytes each, in a memory of the default limit.
func DataSegments(segments, size int) []byte {
	segment := slices.Concat([]byte{0, 0x41, 0, end}, leb(size), make([]byte, size))
	return Module{Pages: 512, Data: slices.Repeat([][]byte{segment}, segments)}.Wasm()
}

// ElementSegments has a table, and segments of size elements each.
func ElementSegments(table, segments, size int) []byte {
	segment := slices.Concat([]byte{0, 0x41, 0, end}, vector(size, 0))
	return Module{
		Tables: [][]byte{slices.Concat([]byte{0x70, 0}, leb(table))},
		Bodies: [][]byte{function(0)}, Elements: slices.Repeat([][]byte{segment}, segments),
	}.Wasm()
}

// ManyTables has tables of size elements each.
func ManyTables(tables, size int) []byte {
	return Module{Tables: slices.Repeat([][]byte{slices.Concat([]byte{0x6f, 0}, leb(size))}, tables)}.Wasm()
}

// CustomSection has a section of size bytes without meaning.
func CustomSection(size int) []byte {
	return Module{Custom: section(0, []byte("\x04junk"), make([]byte, size))}.Wasm()
}

// WithManifests has manifests with a text each.
func WithManifests(manifests int, text string) []byte {
	return Module{Custom: bytes.Repeat(section(0, []byte("\x12edgerelay.manifest"+text)), manifests)}.Wasm()
}

// LongName exports a function under a name of n bytes.
func LongName(n int) []byte { return ManyExports(1, n) }

// WithName adds a name of n bytes for each of a module's functions.
func WithName(wasm []byte, functions, n int) []byte {
	names := leb(functions)
	for f := range functions {
		names = append(append(names, leb(f)...), vector(n, 'n')...)
	}
	return append(slices.Clip(wasm), section(0, []byte("\x04name"), section(1, names))...)
}

// StartLoop never returns from its start function.
func StartLoop() []byte {
	return Module{Bodies: [][]byte{function(0, []byte{0x03, 0x40, 0x0c, 0, end})}, Start: true}.Wasm()
}
