// Package metering rewrites WebAssembly modules so that they count the work they do and stop when a budget is spent.
//
// Go cannot preempt a guest: a loop that never ends would hold its thread and, at the next garbage collection, the
// whole process. A module that came through [Rewrite] keeps its remaining fuel in a mutable i64 global, exported as
// [FuelGlobal], and executes "unreachable" once that global falls below zero.
//
// # What is charged
//
//   - one unit at every function entry and every round of a loop, checked there;
//   - one unit for every 64 instructions in a row (loads count two, divisions sixteen), so that long straight code is not free;
//   - the length of bulk memory operations in units of 16 bytes, of table operations in pairs of elements, of memory.grow at 2048 a page;
//   - at the entry of a function that calls others, one unit for each 16 bytes its frame may take on the host's stack, given back when
//     it returns. Fuel therefore bounds the depth of recursion and the host memory it costs, whatever a frame's size.
//
// Everything else about the module stays as it is: a rewritten module gives the results of the original. Modules that
// WebAssembly's validation refuses are refused here or stay invalid; the rewriter makes none valid, and lets none
// reach the fuel global.
//
// Supported is WebAssembly core 2.0. Other proposals (tail calls, exceptions, threads, 64-bit or several memories,
// GC) are refused by name.
package metering

import (
	"errors"
	"fmt"
	"math"
)

// FuelGlobal is the export name of the rewritten module's fuel counter, a mutable i64 global.
// The host sets it before each call and reads what is left afterwards; below zero means that the budget was spent.
const FuelGlobal = "edgerelay.fuel"

// StartExport is the export name of the start function if [Options.ExportStart] is set and the module has one.
const StartExport = "edgerelay.start"

// ErrMalformed is wrapped by every error about bytes that are not a WebAssembly core 2.0 module.
var ErrMalformed = errors.New("malformed WebAssembly module")

// Options tune [Rewrite].
type Options struct {
	// InitialFuel is the counter's value at instantiation: the budget of the start function, which runs before a host
	// can set one.
	InitialFuel int64
	// ExportStart turns the start section into an export, so that the host calls the start function itself once the
	// module is instantiated and can tell a spent budget from a trap.
	ExportStart bool
	// MaxTableElements caps every table of the module, so that table.grow cannot take host memory; 0 means no cap.
	// A module that asks for a larger table at once is refused.
	MaxTableElements uint32
	// MaxPages is the largest memory that the host grants, in pages; 0 means 1024. To ask memory.grow for more fails,
	// and costs nothing.
	MaxPages uint32
}

// Rewrite returns a metered copy of a module. It never panics and takes time linear in the module's size; the input
// is not changed and not kept. Errors wrap [ErrMalformed] or name the unsupported feature.
func Rewrite(wasm []byte, o Options) ([]byte, error) {
	m, err := parse(wasm)
	if err != nil {
		return nil, err
	}
	return m.rewrite(o)
}

// section is one section as it came; body excludes the id and the size.
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

// rank is a section's place in the order that the specification demands: the data count stands before the code.
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
		m.maxPages = growPageCap
	}
	fuel := m.globals // the index of the global we append
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
	// before adds the sections the original lacks, in their place.
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

// recount copies a section's body with the leading element count raised.
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
