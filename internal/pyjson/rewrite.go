package pyjson

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDepth is the greatest depth of nested lists and objects. Python's own limit is close to it.
const MaxDepth = 1000

// maxDigits is the greatest number of digits of an integer that Python reads.
const maxDigits = 4300

// The errors of Append and of encoders that use [Objects].
var (
	ErrSyntax = errors.New("invalid JSON")
	ErrUTF8   = errors.New("not UTF-8")
	ErrDepth  = fmt.Errorf("nested deeper than %d levels", MaxDepth)
	ErrNumber = fmt.Errorf("an integer has more than %d digits", maxDigits)
)

// Append appends json.dumps(json.loads(src)) to dst: src in the form of Python. As in Python, the last of several
// members of the same name counts, and NaN, Infinity and -Infinity are numbers.
func Append(dst, src []byte) ([]byte, error) {
	r := Reader{src: src}
	dst, err := r.Value(dst)
	if err != nil {
		return dst, err
	}
	return dst, r.End()
}

// Reader reads a JSON text, and writes what it reads in the form of Python.
type Reader struct {
	src     []byte
	at      int
	depth   int
	strict  bool // as [Normalize] says
	objects Objects
}

// NewReader returns a Reader at the beginning of src.
func NewReader(src []byte) *Reader { return &Reader{src: src} }

// End returns an error unless the text has been read to the end.
func (r *Reader) End() error {
	if r.space() != 0 || r.at < len(r.src) {
		return r.syntax()
	}
	return nil
}

// Members calls fn for each member of an object, with the name in the form of Python, quoted. fn reads the value.
func (r *Reader) Members(fn func(name []byte) error) error {
	return r.list('{', '}', func() error {
		name, err := r.name(nil)
		if err != nil {
			return err
		}
		return fn(name)
	})
}

// Value appends the next value to dst.
func (r *Reader) Value(dst []byte) ([]byte, error) {
	switch c := r.space(); c {
	case '"':
		return r.text(dst)
	case '{':
		return r.object(dst)
	case '[':
		dst = append(dst, '[')
		first := true
		err := r.list('[', ']', func() (err error) {
			if !first {
				dst = append(dst, ", "...)
			}
			first = false
			dst, err = r.Value(dst)
			return err
		})
		return append(dst, ']'), err
	case 't':
		return r.word(dst, "true")
	case 'f':
		return r.word(dst, "false")
	case 'n':
		return r.word(dst, "null")
	case 'N':
		return r.word(dst, "NaN")
	case 'I':
		return r.word(dst, "Infinity")
	default:
		if bytes.HasPrefix(r.src[r.at:], []byte("-Infinity")) {
			return r.word(dst, "-Infinity")
		}
		return r.number(dst)
	}
}

func (r *Reader) object(dst []byte) ([]byte, error) {
	dst, o := r.objects.Open(dst)
	err := r.list('{', '}', func() (err error) {
		dst = o.Begin(dst)
		if dst, err = r.name(dst); err != nil {
			return err
		}
		dst = o.Named(dst)
		if dst, err = r.Value(dst); err != nil {
			return err
		}
		dst = o.End(dst)
		return nil
	})
	return o.Close(dst), err
}

// list reads a list or an object, and calls fn at each element.
func (r *Reader) list(begin, end byte, fn func() error) error {
	if r.space() != begin {
		return r.syntax()
	}
	if r.depth++; r.depth > MaxDepth || r.strict && r.depth > strictDepth {
		return ErrDepth
	}
	r.at++
	if r.space() == end {
		r.at++
		r.depth--
		return nil
	}
	for {
		if err := fn(); err != nil {
			return err
		}
		switch c := r.space(); c {
		case end:
			r.at++
			r.depth--
			return nil
		case ',':
			r.at++
		default:
			return r.syntax()
		}
	}
}

// name appends a member's name, and reads the colon behind it.
func (r *Reader) name(dst []byte) ([]byte, error) {
	if r.space() != '"' {
		return dst, r.syntax()
	}
	dst, err := r.text(dst)
	if err == nil && r.space() != ':' {
		err = r.syntax()
	}
	r.at++
	return dst, err
}

// space skips white space, and returns the next byte; 0 at the end.
func (r *Reader) space() byte {
	for ; r.at < len(r.src); r.at++ {
		switch c := r.src[r.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (r *Reader) syntax() error { return fmt.Errorf("%w at byte %d", ErrSyntax, r.at) }

func (r *Reader) word(dst []byte, word string) ([]byte, error) {
	if !bytes.HasPrefix(r.src[r.at:], []byte(word)) || r.strict && strings.ContainsAny(word, "NI") {
		return dst, r.syntax()
	}
	r.at += len(word)
	return append(dst, word...), nil
}

// plain reports whether a byte stands for itself in a string.
func plain(c byte) bool { return 0x20 <= c && c < 0x7f && c != '"' && c != '\\' }

// text appends the next string.
func (r *Reader) text(dst []byte) ([]byte, error) {
	dst = append(dst, '"')
	r.at++
	for {
		from := r.at
		for r.at < len(r.src) && plain(r.src[r.at]) {
			r.at++
		}
		dst = append(dst, r.src[from:r.at]...)
		if r.at == len(r.src) {
			return dst, r.syntax()
		}
		switch c := r.src[r.at]; {
		case c == '"':
			r.at++
			return append(dst, '"'), nil
		case c == '\\':
			var err error
			if dst, err = r.escape(dst); err != nil {
				return dst, err
			}
		case c < 0x20:
			return dst, r.syntax()
		default:
			x, size := utf8.DecodeRune(r.src[r.at:])
			if x == utf8.RuneError && size < 2 {
				return dst, ErrUTF8
			}
			dst = appendRune(dst, x)
			r.at += size
		}
	}
}

// escape appends what an escape stands for. Halves of surrogate pairs stay as they are, as in Python.
func (r *Reader) escape(dst []byte) ([]byte, error) {
	rest := r.src[r.at+1:]
	if len(rest) == 0 {
		return dst, r.syntax()
	}
	r.at += 2
	switch c := rest[0]; c {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		return append(dst, '\\', c), nil
	case '/':
		return append(dst, '/'), nil
	case 'u':
		if len(rest) < 5 {
			return dst, r.syntax()
		}
		unit, err := strconv.ParseUint(string(rest[1:5]), 16, 16)
		if err != nil {
			return dst, r.syntax()
		}
		r.at += 4
		if unit >= 0x7f {
			return appendUnit(dst, uint16(unit)), nil
		}
		return appendRune(dst, rune(unit)), nil
	}
	return dst, r.syntax()
}

// number appends the next number.
func (r *Reader) number(dst []byte) ([]byte, error) {
	from := r.at
	if r.at < len(r.src) && r.src[r.at] == '-' {
		r.at++
	}
	whole := r.at
	digits := r.digits()
	if digits == 0 || digits > 1 && r.src[whole] == '0' {
		return dst, r.syntax()
	}
	isInt := true
	if r.at < len(r.src) && r.src[r.at] == '.' {
		isInt = false
		r.at++
		if r.digits() == 0 {
			return dst, r.syntax()
		}
	}
	if r.at < len(r.src) && r.src[r.at]|0x20 == 'e' {
		isInt = false
		r.at++
		if r.at < len(r.src) && (r.src[r.at] == '+' || r.src[r.at] == '-') {
			r.at++
		}
		if r.digits() == 0 {
			return dst, r.syntax()
		}
	}
	text := r.src[from:r.at]
	switch {
	case isInt && digits > maxDigits:
		return dst, ErrNumber
	case isInt && string(text) == "-0":
		return append(dst, '0'), nil
	case isInt:
		return append(dst, text...), nil
	}
	f, _ := strconv.ParseFloat(string(text), 64) // Out of range: infinite, as in Python.
	if r.strict && math.IsInf(f, 0) {
		return dst, r.syntax()
	}
	return AppendFloat(dst, f), nil
}

// digits skips digits and returns their number.
func (r *Reader) digits() (n int) {
	for ; r.at < len(r.src) && '0' <= r.src[r.at] && r.src[r.at] <= '9'; r.at++ {
		n++
	}
	return n
}
