// Package configschema checks JSON values against a subset of JSON Schema. The schema may be a stranger's: reading it
// and checking a value take time linear in their sizes times maxDepth, and no keyword refers to another place. Errors
// name the path to a value and never the value itself, which may be a secret.
// See docs/decisions/plugins.md#why-is-the-schema-of-a-configuration-our-own-subset
package configschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxDepth bounds the nesting of a schema. Values may be deeper where a schema says nothing.
	maxDepth = 32
	// maxFaults bounds the number of faults that an error lists.
	maxFaults = 5
	// maxNameShown bounds the part of a member's name that an error shows.
	maxNameShown = 64
)

// Schema is a checked schema. It is immutable.
type Schema struct {
	never      bool // the schema false
	types      []string
	enum       map[string]bool // by canonical text
	properties map[string]*Schema
	required   []string
	additional *Schema // nil: anything
	items      *Schema // nil: anything
	minimum    *float64
	maximum    *float64
	minLength  *int
	maxLength  *int
}

// keywords lists the keywords of the subset. Description and default are for readers and have no effect.
const keywords = "type, properties, required, additionalProperties, items, enum, minimum, maximum, minLength, " +
	"maxLength, description, default"

var typeNames = []string{"null", "boolean", "integer", "number", "string", "array", "object"}

// Parse reads a schema. An unknown keyword is an error: a keyword that has no effect would promise a check that no code
// makes.
func Parse(text []byte) (*Schema, error) {
	return parse(text, "the schema", 0)
}

func parse(text []byte, at string, depth int) (*Schema, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s is nested more than %d deep", at, maxDepth)
	}
	switch string(bytes.TrimSpace(text)) {
	case "true":
		return &Schema{}, nil
	case "false":
		return &Schema{never: true}, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return nil, fmt.Errorf("%s is not a JSON object", at)
	}
	s := &Schema{}
	for _, keyword := range sortedKeys(members) {
		if err := s.keyword(keyword, members[keyword], at, depth); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Schema) keyword(keyword string, value json.RawMessage, at string, depth int) (err error) {
	decode := func(to any, want string) {
		if json.Unmarshal(value, to) != nil || bytes.Equal(value, []byte("null")) {
			err = fmt.Errorf("%s: %s must be %s", at, keyword, want)
		}
	}
	switch keyword {
	case "description":
		decode(new(string), "a string")
	case "default":
	case "type":
		return s.setTypes(value, at)
	case "enum":
		var list []any
		if list, err = decodeList(value); err != nil {
			return fmt.Errorf("%s: enum must be an array", at)
		}
		s.enum = make(map[string]bool, len(list))
		for _, v := range list {
			s.enum[canonical(v)] = true
		}
	case "required":
		decode(&s.required, "an array of strings")
	case "properties":
		return s.setProperties(value, at, depth)
	case "additionalProperties":
		s.additional, err = parse(value, at+"/additionalProperties", depth+1)
	case "items":
		s.items, err = parse(value, at+"/items", depth+1)
	case "minimum":
		decode(&s.minimum, "a number")
	case "maximum":
		decode(&s.maximum, "a number")
	case "minLength":
		decode(&s.minLength, "an integer")
	case "maxLength":
		decode(&s.maxLength, "an integer")
	default:
		return fmt.Errorf("%s: unsupported keyword %s; use %s", at, show(keyword), keywords)
	}
	return err
}

func (s *Schema) setTypes(value json.RawMessage, at string) error {
	var one string
	if json.Unmarshal(value, &one) == nil {
		s.types = []string{one}
	} else if json.Unmarshal(value, &s.types) != nil {
		return fmt.Errorf("%s: type must be a string or an array of strings", at)
	}
	if len(s.types) == 0 || len(s.types) > len(typeNames) {
		return fmt.Errorf("%s: type must name 1 to %d types", at, len(typeNames))
	}
	for _, name := range s.types {
		if !slices.Contains(typeNames, name) {
			return fmt.Errorf("%s: unknown type %s; use %s", at, show(name), strings.Join(typeNames, ", "))
		}
	}
	return nil
}

func (s *Schema) setProperties(value json.RawMessage, at string, depth int) error {
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil || members == nil {
		return fmt.Errorf("%s: properties must be an object", at)
	}
	s.properties = make(map[string]*Schema, len(members))
	for _, name := range sortedKeys(members) {
		property, err := parse(members[name], at+"/properties/"+shorten(name), depth+1)
		if err != nil {
			return err
		}
		s.properties[name] = property
	}
	return nil
}

// Check checks a value, given as JSON. name is the name of the value in errors. The error lists the first faults.
func (s *Schema) Check(name string, value []byte) error {
	v, err := decode(value)
	if err != nil {
		return fmt.Errorf("%s is not valid JSON", name)
	}
	c := checker{}
	c.check(s, v, name)
	return errors.Join(c.faults...)
}

// checker collects the faults of a value.
type checker struct{ faults []error }

func (c *checker) fail(at, format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf("%s "+format, append([]any{at}, args...)...))
}

func (c *checker) done() bool { return len(c.faults) >= maxFaults }

func (c *checker) check(s *Schema, value any, at string) {
	switch {
	case s == nil || c.done():
		return
	case s.never:
		c.fail(at, "is not allowed")
		return
	case s.types != nil && !slices.ContainsFunc(s.types, func(name string) bool { return isType(value, name) }):
		c.fail(at, "is %s, must be %s", typeOf(value), strings.Join(s.types, " or "))
		return
	case s.enum != nil && !s.enum[canonical(value)]:
		c.fail(at, "is none of the %d values that the schema lists", len(s.enum))
		return
	}
	switch v := value.(type) {
	case json.Number:
		c.checkNumber(s, v, at)
	case string:
		if n := utf8.RuneCountInString(v); s.minLength != nil && n < *s.minLength {
			c.fail(at, "has %d characters, must have at least %d", n, *s.minLength)
		} else if s.maxLength != nil && n > *s.maxLength {
			c.fail(at, "has %d characters, must have at most %d", n, *s.maxLength)
		}
	case []any:
		for i, item := range v {
			if s.items == nil || c.done() {
				return
			}
			c.check(s.items, item, fmt.Sprintf("%s[%d]", at, i))
		}
	case map[string]any:
		c.checkObject(s, v, at)
	}
}

func (c *checker) checkNumber(s *Schema, v json.Number, at string) {
	n, err := v.Float64()
	switch {
	case s.minimum == nil && s.maximum == nil:
	case err != nil:
		c.fail(at, "is out of range")
	case s.minimum != nil && n < *s.minimum:
		c.fail(at, "must be at least %v", *s.minimum)
	case s.maximum != nil && n > *s.maximum:
		c.fail(at, "must be at most %v", *s.maximum)
	}
}

func (c *checker) checkObject(s *Schema, v map[string]any, at string) {
	for _, name := range s.required {
		if _, ok := v[name]; !ok && !c.done() {
			c.fail(at, "lacks the member %s", show(name))
		}
	}
	if s.properties == nil && s.additional == nil {
		return
	}
	for _, name := range sortedKeys(v) {
		if c.done() {
			return
		}
		member, known := s.properties[name]
		switch {
		case known:
			c.check(member, v[name], at+"."+shorten(name))
		case s.additional != nil && s.additional.never:
			c.fail(at, "has the unknown member %s", show(name))
		default:
			c.check(s.additional, v[name], at+"."+shorten(name))
		}
	}
}

// show quotes a name for an error, shortened.
func show(name string) string { return fmt.Sprintf("%q", shorten(name)) }

func shorten(name string) string {
	if len(name) > maxNameShown {
		name = strings.ToValidUTF8(name[:maxNameShown], "") + "…"
	}
	return name
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
