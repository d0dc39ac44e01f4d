package metering

import "fmt"

// Paths are the highest costs, in 64ths of a unit, of ways through a rewritten module.
type Paths struct {
	Uncharged int // without a charge
	Unchecked int // without a check, from a check in one function to a check in its caller
}

// FindPaths follows every way through the functions of a rewritten module, independently of the rewriter: it recognizes
// charges and checks by their code. The code of the helpers is included.
func FindPaths(wasm []byte) (p Paths, err error) {
	m, err := parseRewritten(wasm)
	if err != nil {
		return p, err
	}
	r := reader{b: m.code}
	tail, head, inside := 0, 0, 0
	for n := r.u32(); n > 0; n-- {
		w := walker{m: m, r: reader{b: r.bytes(r.u32())}}
		w.function()
		if w.r.err != nil {
			return p, w.r.err
		}
		if w.failure != "" {
			return p, fmt.Errorf("function %d from the end: %s", n, w.failure)
		}
		p.Uncharged = max(p.Uncharged, w.highest.uncharged)
		inside = max(inside, w.highest.unchecked)
		head = max(head, w.highest.entered)
		if !w.calls {
			tail = max(tail, w.atEnd.unchecked)
		} else if w.atEnd.unchecked > 8 {
			return p, fmt.Errorf("a function with calls ends %d 64ths after its last check", w.atEnd.unchecked)
		}
		if w.atEnd.entered >= 0 {
			return p, fmt.Errorf("function %d from the end: a way without a check", n)
		}
	}
	p.Unchecked = inside + max(tail, head)
	return p, nil
}

// parseRewritten parses a module that the parser rejects for its names.
func parseRewritten(wasm []byte) (*module, error) {
	m := &module{}
	r := reader{b: wasm, pos: len(header)}
	for !r.done() {
		id := r.byte()
		s := reader{b: r.bytes(r.u32())}
		switch id {
		case secType:
			for n := s.u32(); n > 0; n-- {
				s.byte()
				m.types = append(m.types, funcType{params: s.valTypes(), results: s.valTypes()})
			}
		case secImport:
			for n := s.u32(); n > 0; n-- {
				s.name()
				s.name()
				if s.byte() != externFunc {
					return nil, fmt.Errorf("an import of another kind")
				}
				s.u32()
				m.importedFuncs++
			}
		case secFunction:
			for n := s.u32(); n > 0; n-- {
				m.funcs = append(m.funcs, s.u32())
			}
		case secCode:
			m.code = s.b
		}
		if s.err != nil {
			return nil, s.err
		}
	}
	return m, r.err
}

// pathCost is what has been spent on a way: without a charge, since a check, and since the entry if there was no check
// on the way, else -1.
type pathCost struct{ uncharged, unchecked, entered int }

func (a pathCost) join(b pathCost) pathCost {
	return pathCost{max(a.uncharged, b.uncharged), max(a.unchecked, b.unchecked), max(a.entered, b.entered)}
}

var checkedCost = pathCost{entered: -1}

type label struct {
	kind    byte
	reached bool
	cost    pathCost // at the label
	before  pathCost // at an if
	dead    bool     // entered in unreachable code
}

type walker struct {
	m       *module
	r       reader
	labels  []label
	cost    pathCost
	dead    bool
	highest pathCost
	atEnd   pathCost
	calls   bool
	failure string
}

func (w *walker) branch(depth uint32) {
	l := &w.labels[len(w.labels)-1-int(depth)]
	if w.dead {
		return
	}
	if l.kind == opLoop {
		l.cost = l.cost.join(w.cost) // must be followed by a check, which does not depend on it
		return
	}
	l.reached, l.cost = true, l.cost.join(w.cost)
}

// checked reports whether a check follows: the counter's new value, from a local, is compared.
func (w *walker) checked() bool {
	r := w.r
	if r.byte() != opLocalGet {
		return false
	}
	r.u32()
	if r.byte() != opI64Const {
		return false
	}
	r.skipLEB(10)
	switch r.byte() {
	case opI64LtS:
		return true
	case opI64And:
		return r.byte() == opI64Const && r.byte() == 0 && r.byte() == opI64Ne
	}
	return false
}

func (w *walker) function() {
	for n := w.r.u32(); n > 0; n-- {
		w.r.u32()
		w.r.valType()
	}
	w.labels = []label{{kind: opBlock, cost: checkedCost}}
	for len(w.labels) > 0 && w.r.err == nil {
		w.instruction()
	}
}

func (w *walker) instruction() {
	r := &w.r
	op := r.byte()
	b := body{r: *r} // for the immediates
	d := plain[op]
	w.spend(int(d.cost))
	switch {
	case d.imm != immOwn:
		b.immediate(d.imm)
		*r = b.r
		return
	}
	switch op {
	case opBlock, opLoop, opIf:
		r.skipLEB(5)
		l := label{kind: op, dead: w.dead, cost: checkedCost, before: w.cost}
		if op == opLoop && !w.dead && !w.loopChecks() && w.failure == "" {
			w.failure = "a loop without a check"
		}
		w.labels = append(w.labels, l)
	case opElse:
		l := &w.labels[len(w.labels)-1]
		if !w.dead {
			l.reached, l.cost = true, l.cost.join(w.cost)
		}
		l.kind = opElse
		w.dead, w.cost = l.dead, l.before
	case opEnd:
		l := w.labels[len(w.labels)-1]
		if !w.dead && l.kind != opLoop {
			l.reached, l.cost = true, l.cost.join(w.cost)
		}
		if l.kind == opIf && !l.dead {
			l.reached, l.cost = true, l.cost.join(l.before)
		}
		if l.kind != opLoop {
			w.dead, w.cost = l.dead || !l.reached, l.cost
		}
		w.labels = w.labels[:len(w.labels)-1]
		if len(w.labels) == 0 {
			w.atEnd = w.cost
		}
	case opBr:
		w.branch(r.u32())
		w.dead = true
	case opBrIf:
		w.branch(r.u32())
	case opBrTable:
		for n := r.u32() + 1; n > 0; n-- {
			w.branch(r.u32())
		}
		w.dead = true
	case opReturn:
		w.branch(uint32(len(w.labels) - 1))
		w.dead = true
	case opUnreachable:
		w.dead = true
	case opCall:
		switch i := r.u32(); {
		case i == w.m.importedFuncs-1: // the host
			w.cost = checkedCost
		case string(w.m.types[w.m.funcs[i-w.m.importedFuncs]].params) == string(threeI32): // a helper, with checks
			w.cost = checkedCost
		default:
			w.calls = w.calls || !w.dead
		}
	case opGlobalSet:
		r.u32()
		w.cost.uncharged = 0
		if w.checked() {
			w.cost.unchecked, w.cost.entered = 0, -1
		}
	case opGlobalGet, opLocalGet, opLocalSet, opLocalTee, opRefFunc:
		r.u32()
	case opMemoryGrow, opRefNull:
		r.byte()
	case opPrefixMisc:
		for n := map[uint32]int{8: 2, 10: 2, 11: 1}[r.u32()]; n > 0; n-- {
			r.u32()
		}
	default:
		r.fail("the generator does not use opcode %#x", op)
	}
}

func (w *walker) spend(c int) {
	if w.dead {
		return
	}
	w.cost.uncharged += c
	w.cost.unchecked += c
	if w.cost.entered >= 0 {
		w.cost.entered += c
	}
	w.highest = w.highest.join(w.cost)
}

// loopChecks reports whether a loop begins with a check.
func (w *walker) loopChecks() bool {
	r := w.r
	if r.b[r.pos] == opBlock {
		r.pos++
		r.skipLEB(5)
	}
	if r.byte() != opGlobalGet {
		return false
	}
	r.u32()
	if r.byte() != opI64Const {
		return false
	}
	r.skipLEB(10)
	if r.byte() != opI64Sub || r.byte() != opLocalTee {
		return false
	}
	r.u32()
	if r.byte() != opGlobalSet {
		return false
	}
	r.u32()
	next := walker{r: r}
	return next.checked()
}
