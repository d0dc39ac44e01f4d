// Package metering rewrites WebAssembly modules so that they count fuel and stop when the budget is spent.
//
// Go cannot preempt a guest: an endless loop would hold its thread and, at the next garbage collection, the whole
// process. A module rewritten by [Rewrite] keeps the remaining fuel in a mutable i64 global, exported as [FuelGlobal],
// and executes "unreachable" once that global falls below zero.
//
// # Costs
//
//   - Every function entry and every round of a loop costs one unit, and checks the budget.
//   - Every 64 instructions in a row cost one unit, so long straight code is not free. Loads count as two instructions,
//     divisions as sixteen.
//   - Bulk memory operations cost one unit per 16 bytes, table operations one unit per two elements, and memory.grow
//     2048 units per page.
//   - The entry of a function with calls costs one unit per 16 bytes that the frame may take on the host's stack. The
//     exit returns this charge. Fuel therefore bounds the depth of recursion and the host's stack, for frames of any
//     size.
//
// Otherwise a rewritten module behaves like the original. Modules that fail WebAssembly's validation are rejected here
// or stay invalid: the rewriter makes no invalid module valid, and lets no module reach the fuel global.
//
// The rewriter supports WebAssembly core 2.0. Other proposals are rejected by name: tail calls, exceptions, threads,
// 64-bit or several memories, garbage collection.
package metering

import (
	"errors"
	"fmt"
	"math"
)

// FuelGlobal is the export name of the rewritten module's fuel counter, a mutable i64 global. The host sets the
// counter before each call and reads the remaining fuel afterwards. A negative value means that the budget was spent.
const FuelGlobal = "edgerelay.fuel"

// StartExport is the export name of the start function if [Options.ExportStart] is set and the module has one.
const StartExport = "edgerelay.start"

// ErrMalformed is wrapped by every error about bytes that are not a WebAssembly core 2.0 module.
// See docs/decisions/plugins.md#why-does-the-rewriter-validate-some-indices-and-sizes-itself
var ErrMalformed = errors.New("malformed WebAssembly module")

// Options are the settings of [Rewrite].
type Options struct {
	// InitialFuel is the counter's value at instantiation: the budget of the start function, which runs before the host
	// can set the counter.
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

// section is an unchanged section of the input; body excludes the id and the size.
type section struct {
	id   byte
	body []byte
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
	fuel := m.globals // the index of the added global
	if fuel == math.MaxUint32 {
		return nil, malformed("too many globals")
	}
	code, err := m.rewriteCode(fuel)
	if err != nil {
		return nil, err
	}

	out := make([]byte, 0, len(code)+m.size+256)
	out = append(out, header...)
	doneGlobal, doneExport := false, false
	var exports []byte
	exported := uint32(1)
	exports = appendExport(exports, FuelGlobal, externGlobal, fuel)
	if o.ExportStart && m.hasStart {
		exported++
		exports = appendExport(exports, StartExport, externFunc, m.start)
	}
	// before adds the sections that the original lacks, in their places.
	before := func(r int) {
		if !doneGlobal && r > rank(secGlobal) {
			out = appendSection(out, secGlobal, appendFuelGlobal([]byte{1}, o.InitialFuel))
			doneGlobal = true
		}
		if !doneExport && r > rank(secExport) {
			out = appendSection(out, secExport, append([]byte{byte(exported)}, exports...))
			doneExport = true
		}
	}
	for _, s := range m.sections {
		if s.id != secCustom {
			before(rank(s.id))
		}
		switch s.id {
		case secType:
			out = appendSection(out, s.id, m.typeSection())
		case secTable:
			body, err := m.tableSection(s.body, o.MaxTableElements)
			if err != nil {
				return nil, err
			}
			out = appendSection(out, s.id, body)
		case secGlobal:
			out = appendSection(out, s.id, appendFuelGlobal(recount(s.body, 1), o.InitialFuel))
			doneGlobal = true
		case secExport:
			out = appendSection(out, s.id, append(recount(s.body, exported), exports...))
			doneExport = true
		case secStart:
			if !o.ExportStart {
				out = appendSection(out, s.id, s.body)
			}
		case secCode:
			out = appendSection(out, s.id, code)
		default:
			out = appendSection(out, s.id, s.body)
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

func appendFuelGlobal(b []byte, initial int64) []byte {
	b = append(b, typeI64, 1, opI64Const)
	b = appendS64(b, initial)
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
