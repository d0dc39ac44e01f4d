// Package metering rewrites WebAssembly modules so that they count fuel and call the host when a slice of it is spent.
//
// Go cannot preempt a guest: an endless loop would hold its thread and, at the next garbage collection, the whole
// process. A module rewritten by [Rewrite] keeps the fuel of its slice in a mutable i64 global, exported as
// [CounterGlobal], and calls the imported function [SliceFunction] of [HostModule] once the slice is spent. There the
// host ends the call, or sets the counter to the next slice and returns.
//
// # Costs
//
//   - Every function entry and every round of a loop costs one unit.
//   - Every 64 instructions in a row cost one unit, so long straight code is not free. Loads count as two instructions,
//     divisions as sixteen. A function with calls pays for the rest, a part of a unit, at its exit.
//   - Bulk memory operations cost one unit per 16 bytes, table operations one unit per 1024 elements, and memory.grow
//     2048 units per page.
//
// # Checks
//
// The counter is checked at every function entry, in every round of a loop, at the exit of every function with calls,
// before bulk operations, and after 32 units of straight code. Bulk memory operations of more than 2048 bytes become a
// loop over chunks. On every path the host is called before [SliceUnits] units are executed.
//
// # The stack
//
// A part of the counter bounds the host's stack. The entry of a function with calls takes a part per 16 bytes that the
// frame may have, and the exit returns it. The host is called if a recursion takes more than [StackBytes].
//
// Otherwise a rewritten module behaves like the original. Modules that fail WebAssembly's validation are rejected here
// or stay invalid: the rewriter makes no invalid module valid, and lets no module reach the counter or the import.
//
// The rewriter supports WebAssembly core 2.0. Other proposals are rejected by name: tail calls, exceptions, threads,
// 64-bit or several memories, garbage collection.
package metering

import (
	"errors"
	"fmt"
	"math"
)

// Names of the rewritten module.
const (
	// CounterGlobal is the export name of the counter, a mutable i64 global that holds a [Counter]. The host sets it
	// before each call and in the slice function.
	CounterGlobal = "edgerelay.counter"
	// HostModule and SliceFunction name the added import, a function without parameters and results. It is called when
	// the counter's fuel is negative, or its stack overflows. The module may import nothing else from HostModule.
	HostModule    = "edgerelay"
	SliceFunction = "slice"
)

// StartExport is the export name of the start function if [Options.ExportStart] is set and the module has one.
const StartExport = "edgerelay.start"

// ErrMalformed is wrapped by every error about bytes that are not a WebAssembly core 2.0 module.
// See docs/decisions/plugins.md#why-does-the-rewriter-validate-some-indices-and-sizes-itself
var ErrMalformed = errors.New("malformed WebAssembly module")

// Options are the settings of [Rewrite].
type Options struct {
	// InitialFuel is the counter's fuel at instantiation, in units: the first slice of the start function, which runs
	// before the host can set the counter.
	InitialFuel int64
	// ExportStart turns the start section into an export. The host then calls the start function after the
	// instantiation, and can tell a spent budget from a trap.
	ExportStart bool
	// MaxTableElements caps every table of the module, so that table.grow cannot exhaust host memory; 0 means no cap.
	// A module with a larger initial table is rejected.
	MaxTableElements uint32
	// MaxPages is the largest memory that the host grants, in pages; 0 means 1024. A call of memory.grow for more pages
	// fails, and costs nothing.
	MaxPages uint32
}

// Rewrite returns a metered copy of a module. Rewrite never panics, takes time linear in the module's size, and neither
// changes nor keeps the input. Errors wrap [ErrMalformed] or name the unsupported feature.
// See docs/decisions/plugins.md#why-is-fuel-counted-by-rewriting-modules
func Rewrite(wasm []byte, o Options) ([]byte, error) {
	m, err := parse(wasm)
	if err != nil {
		return nil, err
	}
	return m.rewrite(o)
}

// section is a section of the input; body excludes the id and the size.
type section struct {
	id    byte
	body  []byte
	funcs []place // of function indices
}

// Section ids.
const (
	secCustom    = 0
	secType      = 1
	secImport    = 2
	secFunction  = 3
	secTable     = 4
	secMemory    = 5
	secGlobal    = 6
	secExport    = 7
	secStart     = 8
	secElement   = 9
	secCode      = 10
	secData      = 11
	secDataCount = 12
)

// rank returns a section's place in the order that the specification requires: the data count comes before the code.
func rank(id byte) int {
	switch {
	case id == secDataCount:
		return 2*secElement + 1
	default:
		return 2 * int(id)
	}
}

func (m *module) rewrite(o Options) ([]byte, error) {
	m.maxPages = o.MaxPages
	if m.maxPages == 0 {
		m.maxPages = defaultMaxPages
	}
	if m.globals == math.MaxUint32 {
		return nil, malformed("too many globals")
	}
	m.counter = m.globals
	code, err := m.rewriteCode()
	if err != nil {
		return nil, err
	}
	imported := m.appendSliceImport(nil)
	global := appendCounter(nil, o.InitialFuel)

	out := make([]byte, 0, len(code)+m.size+256)
	out = append(out, header...)
	exported := uint32(1)
	exports := appendExport(nil, CounterGlobal, externGlobal, m.counter)
	if o.ExportStart && m.hasStart {
		exported++
		exports = appendExport(exports, StartExport, externFunc, m.shifted(m.start))
	}
	// missing are sections that the original may lack.
	missing := []section{
		{id: secType, body: m.typeSection()},
		{id: secImport, body: append([]byte{1}, imported...)},
		{id: secGlobal, body: append([]byte{1}, global...)},
		{id: secExport, body: append([]byte{byte(exported)}, exports...)},
	}
	// before adds missing sections in their places: those before the section with the given rank.
	before := func(r int) {
		for len(missing) > 0 && rank(missing[0].id) <= r {
			if rank(missing[0].id) < r {
				out = appendSection(out, missing[0].id, missing[0].body)
			}
			missing = missing[1:]
		}
	}
	for _, s := range m.sections {
		if s.id != secCustom {
			before(rank(s.id))
		}
		switch s.id {
		case secType:
			out = appendSection(out, s.id, m.typeSection())
		case secImport:
			out = appendSection(out, s.id, append(recount(s.body, 1), imported...))
		case secFunction:
			out = appendSection(out, s.id, m.functionSection(s.body))
		case secTable:
			body, err := m.tableSection(s.body, o.MaxTableElements)
			if err != nil {
				return nil, err
			}
			out = appendSection(out, s.id, body)
		case secGlobal:
			out = appendSection(out, s.id, append(recount(m.shift(s), 1), global...))
		case secExport:
			out = appendSection(out, s.id, append(recount(m.shift(s), exported), exports...))
		case secStart:
			if !o.ExportStart {
				out = appendSection(out, s.id, appendU32(nil, m.shifted(m.start)))
			}
		case secCode:
			out = appendSection(out, s.id, code)
		default:
			out = appendSection(out, s.id, m.shift(s))
		}
	}
	before(math.MaxInt)
	return out, nil
}

// recount copies a section's body with a higher element count.
func recount(body []byte, by uint32) []byte {
	r := reader{b: body}
	n := r.u32()
	return append(appendU32(nil, n+by), body[r.pos:]...)
}

// shift returns the body of a section with the function indices after the rewriting.
func (m *module) shift(s section) []byte {
	if len(s.funcs) == 0 {
		return s.body
	}
	out := make([]byte, 0, len(s.body)+len(s.funcs))
	copied := uint32(0)
	for _, p := range s.funcs {
		out = append(out, s.body[copied:p.from]...)
		r := reader{b: s.body, pos: int(p.from)}
		out = appendU32(out, m.shifted(r.u32()))
		copied = p.to
	}
	return append(out, s.body[copied:]...)
}

// functionSection returns the types of the functions and of the helpers.
func (m *module) functionSection(body []byte) []byte {
	out := recount(body, uint32(len(m.helpers)))
	for range m.helpers {
		out = appendU32(out, m.addType(threeI32, nil))
	}
	return out
}

// appendSliceImport appends the import of the slice function, behind the module's own imports.
func (m *module) appendSliceImport(b []byte) []byte {
	for _, name := range []string{HostModule, SliceFunction} {
		b = append(appendU32(b, uint32(len(name))), name...)
	}
	return appendU32(append(b, externFunc), m.addType(nil, nil))
}

func appendCounter(b []byte, fuel int64) []byte {
	b = appendS64(append(b, typeI64, 1, opI64Const), int64(NewCounter(min(fuel, maxCounterUnits)*Unit)))
	return append(b, opEnd)
}

func appendExport(b []byte, name string, kind byte, index uint32) []byte {
	b = appendU32(b, uint32(len(name)))
	b = append(b, name...)
	b = append(b, kind)
	return appendU32(b, index)
}

func appendSection(out []byte, id byte, body []byte) []byte {
	out = append(out, id)
	out = appendU32(out, uint32(len(body)))
	return append(out, body...)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}
