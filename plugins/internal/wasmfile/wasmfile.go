// Package wasmfile reads the interface of a WebAssembly module from its bytes: imports, exports and custom sections. It
// neither compiles nor validates code, so that its cost is linear in the size of a hostile module.
package wasmfile

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Module is the interface of a module. Byte slices point into the module.
type Module struct {
	Imports []Import
	Exports []Export
	// Custom are the custom sections, in order.
	Custom []Section
}

// Import is an imported function, table, memory or global.
type Import struct {
	Module, Name string
	Kind         Kind
}

// Export is an exported function, table, memory or global.
type Export struct {
	Name string
	Kind Kind
}

// Section is a custom section.
type Section struct {
	Name string
	Data []byte
	// start and end delimit the whole section in the module.
	start, end int
}

// Kind is the kind of an import or export.
type Kind byte

// Kinds.
const (
	Function Kind = iota
	Table
	Memory
	Global
)

var header = []byte{0, 'a', 's', 'm', 1, 0, 0, 0}

const (
	sectionCustom = 0
	sectionImport = 2
	sectionExport = 7

	// maxItems bounds the number of imports, of exports and of custom sections.
	maxItems = 100_000
)

// CheckVersion returns an error for a file with the first four bytes of WebAssembly that is no core module. After the
// magic number come a version and a layer, of two bytes each; layer 1 is the component model.
func CheckVersion(wasm []byte) error {
	switch {
	case bytes.HasPrefix(wasm, header):
		return nil
	case len(wasm) >= len(header) && wasm[6] == 1 && wasm[7] == 0:
		return errors.New("this is a WebAssembly component; edgerelay runs core modules: " +
			"build for wasm32-unknown-unknown or wasip1 without wasm-tools component new " +
			"(Rust: not wasm32-wasip2; see docs/write-a-plugin.md#components)")
	}
	return errors.New("malformed WebAssembly module: the version is not 1")
}

// Read reads the interface of a module.
func Read(wasm []byte) (*Module, error) {
	if len(wasm) < 4 || !bytes.Equal(wasm[:4], header[:4]) {
		return nil, errors.New(`malformed WebAssembly module: it does not begin with "\0asm"; is it a .wasm file?`)
	}
	if err := CheckVersion(wasm); err != nil {
		return nil, err
	}
	m := &Module{}
	r := reader{b: wasm, pos: len(header)}
	for r.err == nil && r.pos < len(wasm) {
		start := r.pos
		id := r.byte()
		body := reader{b: r.bytes(r.u32())}
		if r.err != nil {
			break
		}
		switch id {
		case sectionCustom:
			name := body.name()
			m.Custom = append(m.Custom, Section{Name: name, Data: body.b[body.pos:], start: start, end: r.pos})
			if len(m.Custom) > maxItems {
				body.fail("more than %d custom sections", maxItems)
			}
		case sectionImport:
			m.imports(&body)
		case sectionExport:
			m.exports(&body)
		}
		if body.err != nil {
			return nil, fmt.Errorf("section %d: %w", id, body.err)
		}
	}
	return m, r.err
}

func (m *Module) imports(r *reader) {
	for n := r.count(); n > 0 && r.err == nil; n-- {
		i := Import{Module: r.name(), Name: r.name(), Kind: Kind(r.byte())}
		switch i.Kind {
		case Function:
			r.u32()
		case Table:
			r.byte()
			r.limits()
		case Memory:
			r.limits()
		case Global:
			r.bytes(2)
		default:
			r.fail("unknown kind %d of import", i.Kind)
		}
		m.Imports = append(m.Imports, i)
	}
}

func (m *Module) exports(r *reader) {
	for n := r.count(); n > 0 && r.err == nil; n-- {
		m.Exports = append(m.Exports, Export{Name: r.name(), Kind: Kind(r.byte())})
		r.u32()
	}
}

// SetCustom returns the module with a single custom section of that name, at its end. It keeps all other bytes.
func SetCustom(wasm []byte, name string, data []byte) ([]byte, error) {
	m, err := Read(wasm)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(wasm)+len(name)+len(data)+16)
	from := 0
	for _, s := range m.Custom {
		if s.Name == name {
			out = append(out, wasm[from:s.start]...)
			from = s.end
		}
	}
	out = append(out, wasm[from:]...)
	body := appendU32(nil, uint32(len(name)))
	body = append(append(body, name...), data...)
	out = appendU32(append(out, sectionCustom), uint32(len(body)))
	return append(out, body...), nil
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// reader decodes untrusted bytes and keeps the first error, after which all reads return zero.
type reader struct {
	b   []byte
	pos int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("malformed WebAssembly module: "+format, args...)
		r.pos = len(r.b)
	}
}

func (r *reader) byte() byte {
	if r.pos >= len(r.b) {
		r.fail("unexpected end")
		return 0
	}
	r.pos++
	return r.b[r.pos-1]
}

func (r *reader) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)-r.pos) {
		r.fail("length %d reaches beyond the end", n)
		return nil
	}
	r.pos += int(n)
	return r.b[r.pos-int(n) : r.pos]
}

// u32 reads an unsigned LEB128 of at most five bytes.
func (r *reader) u32() (v uint32) {
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		if shift == 28 && c > 0x0f {
			break
		}
		if v |= uint32(c&0x7f) << shift; c < 0x80 {
			return v
		}
	}
	r.fail("integer too large")
	return 0
}

func (r *reader) count() uint32 {
	n := r.u32()
	if n > maxItems {
		r.fail("a section has %d items, more than %d", n, maxItems)
		return 0
	}
	return n
}

func (r *reader) name() string {
	b := r.bytes(r.u32())
	if !utf8.Valid(b) {
		r.fail("a name is not UTF-8")
	}
	return string(b)
}

// limits skips the limits of a table or memory, whose sizes may be LEB128 of ten bytes.
func (r *reader) limits() {
	flags := r.byte()
	sizes := 1
	if flags&1 != 0 {
		sizes = 2
	}
	for ; sizes > 0; sizes-- {
		for n := 0; r.byte() >= 0x80; n++ {
			if n == 10 {
				r.fail("integer too large")
				return
			}
		}
	}
}
