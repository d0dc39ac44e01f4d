package metering

import (
	"fmt"
	"time"
)

// effort estimates what the engine's compiler needs for a function beyond a multiple of its size. The compiler's time
// and memory grow with the products of blocks and values, so a module of a few kilobytes can take gigabytes. The
// weights are the highest of several measured families of modules.
// See docs/decisions/plugins.md#why-does-the-rewriter-estimate-the-cost-of-compiling
type effort struct {
	blocks   int // of the control flow graph after the rewriting
	loops    int
	targets  int // of br_table
	values   int // that are on the operand stack at constructs and branches, in total
	passed   int // parameters and results of calls and constructs, in total
	calls    int
	accesses int // of memory
	bulk     int // bulk memory operations, and growing
}

const (
	// maxCompileMemory bounds the estimated memory for a function.
	maxCompileMemory = 192 << 20
	// maxCompileTime, and compileTimePerByte for each byte of code, bound the estimated time for the module. The
	// estimate is twice to four times the time that real modules take.
	maxCompileTime     = 4 * time.Second
	compileTimePerByte = 4 * time.Microsecond
)

// memory returns the estimated bytes for a function with locals and code bytes, in a module with globals.
func (c *effort) memory(code, locals, globals int) int {
	return 60*code + 4000*c.accesses + 2300*c.targets + 8000*c.blocks + 36_000*c.bulk +
		(1600*(c.loops+c.targets)+170*c.blocks)*locals +
		170*c.values + 420*c.passed + 170*c.calls*globals
}

// time returns the estimated time for a function.
func (c *effort) time(locals, globals int) time.Duration {
	return time.Duration(13*c.blocks*c.blocks + 17_000*c.targets +
		(5000*(c.loops+c.targets)+1400*c.blocks)*locals +
		2000*c.values + 1000*c.passed + 300*c.calls*globals + 100*(locals+globals))
}

// checkEffort rejects the function if it, or the module up to it, is too expensive to compile.
func (b *body) checkEffort() error {
	locals, globals, e := int(b.locals), int(b.m.globals), &b.effort
	if memory := e.memory(len(b.r.b), locals, globals); memory > maxCompileMemory {
		return fmt.Errorf("the function is too complex: compiling it could take %d MiB, more than %d; it has %d bytes, "+
			"%d blocks, %d locals, %d branch targets, %d values passed on and %d memory accesses; "+
			"split the function, or build with optimization",
			memory>>20, maxCompileMemory>>20, len(b.r.b), e.blocks, locals, e.targets, e.values+e.passed, e.accesses)
	}
	limit := maxCompileTime + compileTimePerByte*time.Duration(len(b.m.code))
	if b.m.compileTime += e.time(locals, globals); b.m.compileTime > limit {
		return fmt.Errorf("the module is too complex: compiling it up to this function could take more than %v; "+
			"its functions have too many blocks, locals, branch targets or values passed on; "+
			"split large functions, or build with optimization", limit.Round(time.Second))
	}
	return nil
}
