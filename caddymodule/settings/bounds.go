package settings

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Check returns an error for a number, a size or a duration that [Read] would reject: a configuration in JSON does not
// pass through Read. v is a pointer to a struct with settings; Check includes the structs within it. block is the name
// before the settings in errors. A value of 0 stands for the default, unless the field is a pointer.
func Check(block string, v any) error { return check(block, reflect.ValueOf(v)) }

func check(block string, v reflect.Value) error {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		args, tagged := sf.Tag.Lookup("caddyfile")
		if own, rest, ok := strings.Cut(args, "="); ok {
			name, args = own, rest
		}
		var err error
		switch {
		case sf.Anonymous && sf.Type.Kind() == reflect.Struct:
			err = check(block, v.Field(i))
		case !sf.IsExported() || name == "" || name == "-":
		default:
			f := &field{name, args, v.Field(i), sf.Tag}
			err = f.check(block, tagged)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// check checks a field, or the structs in it. Numbers without a tag caddyfile have checks of their own.
func (f *field) check(block string, tagged bool) error {
	v, given := f.value, false
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v, given = v.Elem(), true
	}
	switch v.Kind() {
	case reflect.Struct:
		return check(block+": "+f.name, v)
	case reflect.Slice:
		of := v.Type().Elem()
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		for i := 0; of.Kind() == reflect.Struct && i < v.Len(); i++ {
			if err := check(block+": "+f.name+label(v.Index(i)), v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Int, reflect.Int64, reflect.Float64:
		if !tagged || v.IsZero() && !given {
			return nil
		}
		if err := f.checkValue(v); err != nil {
			return fmt.Errorf("%s: %s: %w", block, f.name, err)
		}
	}
	return nil
}

// label returns a space and the name or the path of an element of a list, empty if the element has neither.
func label(v reflect.Value) string {
	v = reflect.Indirect(v)
	for _, name := range []string{"Name", "Path"} {
		if f := reflect.Indirect(v); v.IsValid() && f.FieldByName(name).Kind() == reflect.String {
			return " " + f.FieldByName(name).String()
		}
	}
	return ""
}

// checkValue checks a number, a size or a duration that was not parsed from a text.
func (f *field) checkValue(v reflect.Value) error {
	switch {
	case v.Type() == offType && v.Int() < 0:
		return nil
	case v.Type() == offType || v.Type() == durationType:
		d := time.Duration(v.Int())
		return f.checkDuration(d, d.String())
	case v.Kind() == reflect.Float64:
		return f.checkFloat(v.Float(), strconv.FormatFloat(v.Float(), 'g', -1, 64))
	case strings.TrimSuffix(f.args, "...") == "<size>":
		return f.checkSize(v.Int(), strconv.FormatInt(v.Int(), 10))
	case v.Int() == 0 && f.canBeOff():
		return nil
	}
	return f.checkNumber(v.Int(), strconv.FormatInt(v.Int(), 10))
}

// canBeOff reports whether the setting takes the word off.
func (f *field) canBeOff() bool { return slices.Contains(strings.Split(f.args, "|"), "off") }

// mostSize is the greatest size that the setting takes.
func (f *field) mostSize() int64 {
	if text := f.tag.Get("max"); text != "" {
		n, err := humanize.ParseBytes(text)
		if err != nil || n > maxSize {
			panic("settings: invalid tag max of " + f.name)
		}
		return int64(n)
	}
	if kind := f.kind(); kind == reflect.Int64 {
		return maxSize
	}
	return maxBuffer
}

// mostNumber is the greatest number that the setting takes.
func (f *field) mostNumber() int64 {
	if text := f.tag.Get("max"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			panic("settings: invalid tag max of " + f.name)
		}
		return n
	}
	if f.kind() == reflect.Int64 {
		return maxSize
	}
	return math.MaxInt32
}

// kind is the kind of the setting's values.
func (f *field) kind() reflect.Kind {
	t := f.value.Type()
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t.Kind()
}

// least returns the shortest duration that the setting takes; 0 if there is none.
func (f *field) least() time.Duration {
	switch text := f.tag.Get("min"); text {
	case "":
		return 0
	case "1":
		return 1
	default:
		d, err := time.ParseDuration(text)
		if err != nil {
			panic("settings: invalid tag min of " + f.name)
		}
		return d
	}
}

func (f *field) checkDuration(d time.Duration, text string) error {
	least := f.least()
	switch {
	case d == 0 && slices.Contains(strings.Split(f.args, "|"), "0"):
		return nil
	case least > 1 && d < least:
		return fmt.Errorf("invalid duration %q; use at least %v", text, least)
	case d < 0:
		return fmt.Errorf("invalid duration %q; use a value such as 30s, 5m or 1d", text)
	case d < least:
		return fmt.Errorf("invalid duration %q; use one above 0, such as 30s", text)
	}
	_, err := bounded(d)
	return err
}

func (f *field) checkSize(n int64, text string) error {
	switch most := f.mostSize(); {
	case n < 0:
		return fmt.Errorf("invalid size %q; use a value such as 64KiB", text)
	case n > most:
		return tooLarge(text, most)
	case n == 0 && f.tag.Get("min") != "":
		return fmt.Errorf("invalid size %q; use one above 0, such as 64KiB", text)
	}
	return nil
}

func (f *field) checkFloat(n float64, text string) error {
	switch {
	case !(n >= 0 && n <= math.MaxInt32): // JSON has neither NaN nor infinity
		return fmt.Errorf("invalid number %q; use a value from 0, such as 20 or 0.5", text)
	case n == 0 && f.tag.Get("min") != "":
		return fmt.Errorf("invalid number %q; use a value above 0, such as 20 or 0.5", text)
	}
	return nil
}

func (f *field) checkNumber(n int64, text string) error {
	least, most, remedy := int64(0), f.mostNumber(), "use a number from 0, such as 10"
	if f.tag.Get("min") != "" {
		least, remedy = 1, "use a value above 0"
	}
	if n > most {
		remedy = fmt.Sprintf("use %d at most", most)
	}
	if f.canBeOff() {
		remedy += ", or off"
	}
	switch {
	case n > most:
		return fmt.Errorf("number %s is too large; %s", text, remedy)
	case n < least:
		return fmt.Errorf("invalid number %q; %s", text, remedy)
	}
	return nil
}
