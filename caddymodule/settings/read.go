package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Reader is a struct with settings that need code of their own, because a tag cannot describe the arguments.
type Reader interface {
	// ReadSetting reads the setting at which d stands, or returns false to leave the setting to [Read].
	ReadSetting(d *caddyfile.Dispenser) (known bool, err error)
}

// BlockReader is a struct that reads a whole setting, arguments and block, instead of [Read].
type BlockReader interface {
	// ReadBlock reads the setting at which d stands.
	ReadBlock(d *caddyfile.Dispenser) error
}

// Read reads a block of a Caddyfile into the struct that to points to. block names the block in errors. A repeated
// setting replaces the earlier value; a repeated list or block adds to the earlier values.
//
// A setting is declared once, by a field of the struct. The tag json is the name in both formats, and the tag caddyfile
// describes the arguments in a Caddyfile. The comment gives meaning and default for the reference. A field without a
// tag caddyfile cannot be set in a block. The arguments are written as in the reference:
//
//	<size>, <duration>, <anything else>   one value; the field's type selects the parser
//	<duration>|off                        "off" is -1s
//	<number>|off                          "off" is 0
//	on|off                                a boolean
//	a|b|c                                 one of the words
//	<value>...                            at least one value, added to earlier values
//	<json>                                JSON
//	{ … }                                 a block of the field's own struct, see also [BlockReader]
//	-                                     no arguments: a boolean that is true if the setting is present
//
// A tag name=arguments gives the setting another name in a Caddyfile: a directive that adds an element to a list. The
// tag min:"1" requires a number, size or duration above 0, or a text that is not empty, min:"1s" a duration of at least that, max:"1EiB" replaces the
// bound of a size and max:"4096" that of a number, and example appears in errors. [Check] applies the same bounds to a
// configuration in JSON.
//
// See docs/decisions/caddy.md#why-is-a-setting-declared-once-by-a-struct-field
func Read(d *caddyfile.Dispenser, block string, to any) error {
	fields := fieldsOf(reflect.ValueOf(to).Elem())
	previous := block
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() == "{" { // after a setting without a block
			return d.Errf("%s: %s takes no block", block, previous)
		}
		previous = d.Val()
		if r, ok := to.(Reader); ok {
			if known, err := r.ReadSetting(d); err != nil {
				return err
			} else if known {
				continue
			}
		}
		name := d.Val()
		f := find(fields, name)
		if r, old := replaced(block, name); f == nil && old {
			return d.Err(r.Error())
		}
		if f == nil {
			known := names(fields)
			return d.Errf("%s has no setting %q; %s", block, name, Remedy(name, known, "it has "+enumerate(known, "and")))
		}
		if err := f.read(d, block); err != nil {
			return err
		}
	}
	return nil
}

// Names lists the settings of the struct that to points to, in the order of its fields.
func Names(to any) []string { return names(fieldsOf(reflect.ValueOf(to).Elem())) }

// field is a setting.
type field struct {
	name, args string
	value      reflect.Value
	tag        reflect.StructTag
}

// fieldsOf lists the settings of a struct, including the settings of embedded structs.
func fieldsOf(v reflect.Value) (fields []field) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		if sf.Anonymous && sf.Type.Kind() == reflect.Struct {
			fields = append(fields, fieldsOf(v.Field(i))...)
			continue
		}
		args, ok := sf.Tag.Lookup("caddyfile")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if own, rest, ok := strings.Cut(args, "="); ok {
			name, args = own, rest
		}
		fields = append(fields, field{name, args, v.Field(i), sf.Tag})
	}
	return fields
}

func names(fields []field) (list []string) {
	for _, f := range fields {
		list = append(list, f.name)
	}
	return list
}

func find(fields []field, name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

// read reads the setting's arguments and block. Errors name the block that holds the setting.
func (f *field) read(d *caddyfile.Dispenser, block string) error {
	v := f.value
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		if b, ok := v.Interface().(BlockReader); ok {
			return b.ReadBlock(d)
		}
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.Struct:
		if d.CountRemainingArgs() > 0 {
			return d.Errf("%s: %s takes a block, which may be empty; write '%s {', and '}' on a line of its own", block, f.name, f.name)
		}
		return Read(d, f.name, v.Addr().Interface())
	case f.args == "-":
		if d.CountRemainingArgs() > 0 {
			return d.Errf("%s: %s takes no value", block, f.name)
		}
		v.SetBool(true)
		return nil
	case strings.HasSuffix(f.args, "..."):
		return f.readList(d, block, v)
	}
	var text string
	if !d.AllArgs(&text) {
		return d.Errf("%s: %s takes one value%s", block, f.name, f.example())
	}
	if err := f.set(v, text); err != nil {
		return d.Errf("%s: %s: %v", block, f.name, err)
	}
	return nil
}

// example ends an error with values that the setting takes.
func (f *field) example() string {
	words := strings.Split(f.args, "|")
	switch example := f.tag.Get("example"); {
	case example != "":
		return ", such as " + strings.ReplaceAll(example, "'", "`")
	case strings.Contains(f.args, "<"):
		return ": " + f.args
	default:
		return ": " + enumerate(words, "or")
	}
}

func (f *field) readList(d *caddyfile.Dispenser, block string, v reflect.Value) error {
	values := d.RemainingArgs()
	if len(values) == 0 {
		return d.Errf("%s: %s takes at least one value%s", block, f.name, f.example())
	}
	for _, text := range values {
		item := reflect.New(v.Type().Elem()).Elem()
		if err := f.set(item, text); err != nil {
			return d.Errf("%s: %s: %v", block, f.name, err)
		}
		v.Set(reflect.Append(v, item))
	}
	return nil
}

var (
	durationType = reflect.TypeFor[caddy.Duration]()
	offType      = reflect.TypeFor[DurationOrOff]()
	rawType      = reflect.TypeFor[json.RawMessage]()
)

// set parses text and stores the value in v.
func (f *field) set(v reflect.Value, text string) error {
	args := strings.TrimSuffix(f.args, "...")
	switch {
	case v.Type() == durationType || v.Type() == offType:
		return f.setDuration(v, text)
	case args == "<json>":
		if !json.Valid([]byte(text)) {
			return fmt.Errorf("invalid JSON; put it between backticks%s", f.example())
		}
		if v.Type() == rawType {
			v.SetBytes([]byte(text))
		} else {
			v.SetString(text)
		}
		return nil
	case args == "<size>":
		return f.setSize(v, text)
	}
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		return f.setNumber(v, text)
	case reflect.Uint8:
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil {
			return fmt.Errorf("invalid number %q; use 0 to 255", text)
		}
		v.SetUint(n)
		return nil
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			n = math.NaN()
		}
		v.SetFloat(n)
		return f.checkFloat(n, text)
	case reflect.Bool:
		if text != "on" && text != "off" {
			return fmt.Errorf("invalid value %q; %s", text, Remedy(text, []string{"on", "off"}, "use on or off"))
		}
		v.SetBool(text == "on")
		return nil
	}
	if text == "" && f.tag.Get("min") != "" {
		return fmt.Errorf("the value is empty; write one%s, or remove the setting", f.example())
	}
	// A placeholder is replaced and checked when the configuration is loaded.
	words, free := strings.Split(args, "|"), strings.ContainsAny(args, "<{") || strings.Contains(text, "{")
	if !free && !slices.Contains(words, text) {
		return fmt.Errorf("invalid value %q; %s", text, Remedy(text, words, "use "+enumerate(words, "or")))
	}
	v.SetString(text)
	return nil
}

func (f *field) setDuration(v reflect.Value, text string) error {
	if text == "off" && f.canBeOff() {
		v.SetInt(int64(Off))
		return nil
	}
	t, err := ParseDuration(text)
	if err == nil {
		err = f.checkDuration(time.Duration(t), text)
	}
	v.SetInt(int64(t))
	return err
}

func (f *field) setSize(v reflect.Value, text string) error {
	n, err := ParseSize(text, f.mostSize())
	if err == nil {
		err = f.checkSize(n, text)
	}
	v.SetInt(n)
	return err
}

func (f *field) setNumber(v reflect.Value, text string) error {
	if text == "off" && f.canBeOff() {
		v.SetInt(0)
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // beyond 64 bits, n is the nearest number
		n = -1
	}
	v.SetInt(n)
	return f.checkNumber(n, text)
}

// enumerate joins words as in "a, b and c".
func enumerate(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	end := len(words) - 1
	return strings.Join(words[:end], ", ") + " " + last + " " + words[end]
}
