package webhttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// jsonPatch is a list of changes of a JSON document (RFC 6902).
type jsonPatch []patchOperation

type patchOperation struct {
	Op    string          `json:"op"`
	Path  *string         `json:"path"`
	From  *string         `json:"from"`
	Value json.RawMessage `json:"value"`
}

var errPatch = errors.New("a change does not fit the document")

// maxChanges is the greatest number of changes of a patch.
const maxChanges = 100

// UnmarshalJSON checks the changes.
func (p *jsonPatch) UnmarshalJSON(b []byte) error {
	var list []patchOperation
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("body-patch: %w", err)
	}
	if len(list) > maxChanges {
		return fmt.Errorf("body-patch: %d changes; use %d at most", len(list), maxChanges)
	}
	for _, o := range list {
		known := o.Op == "remove" || (o.Op == "add" || o.Op == "replace" || o.Op == "test") && o.Value != nil ||
			(o.Op == "move" || o.Op == "copy") && o.From != nil
		if !known || o.Path == nil {
			return fmt.Errorf("body-patch: invalid change %.32q; use add, remove, replace, move, copy or test with path, "+
				"and value or from", o.Op)
		}
	}
	*p = list
	return nil
}

// apply returns the patched document, with its members sorted and its line feed kept.
func (p jsonPatch) apply(document []byte) ([]byte, error) {
	doc, err := decodeJSON(document)
	if err != nil {
		return nil, err
	}
	for i := range p {
		if doc, err = p[i].apply(doc); err != nil {
			return nil, err
		}
		if p[i].Op != "copy" {
			continue
		}
		if text, err := json.Marshal(doc); err != nil || len(text) > maxResponse { // each copy can double the document
			return nil, errors.Join(err, errTooLong)
		}
	}
	out := &bytes.Buffer{}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(doc); err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	switch {
	case bytes.HasSuffix(document, []byte("\r\n")):
		text = append(text, "\r\n"...)
	case bytes.HasSuffix(document, []byte("\n")):
		text = append(text, '\n')
	}
	return text, nil
}

// decodeJSON decodes a value, in which numbers keep their text.
func decodeJSON(text []byte) (value any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err = d.Decode(&value); err == nil && d.More() {
		err = errPatch
	}
	return value, err
}

func (o *patchOperation) apply(doc any) (any, error) {
	path, err := parsePointer(*o.Path)
	if err != nil {
		return nil, err
	}
	switch o.Op {
	case "remove":
		doc, _, err = removeAt(doc, path)
		return doc, err
	case "move", "copy":
		from, err := parsePointer(*o.From)
		if err != nil {
			return nil, err
		}
		value, err := valueAt(doc, from)
		if err != nil {
			return nil, err
		}
		if o.Op == "copy" {
			return addAt(doc, path, cloneJSON(value))
		}
		if len(path) > len(from) && slices.Equal(path[:len(from)], from) {
			return nil, errPatch // into itself
		}
		if doc, value, err = removeAt(doc, from); err != nil {
			return nil, err
		}
		return addAt(doc, path, value)
	}
	value, err := decodeJSON(o.Value)
	if err != nil {
		return nil, err
	}
	switch o.Op {
	case "test":
		found, err := valueAt(doc, path)
		if err != nil || !reflect.DeepEqual(found, value) {
			return nil, errPatch
		}
		return doc, nil
	case "replace":
		if len(path) == 0 {
			return value, nil
		}
		if doc, _, err = removeAt(doc, path); err != nil {
			return nil, err
		}
	}
	return addAt(doc, path, value)
}

var unescapePointer = strings.NewReplacer("~1", "/", "~0", "~")

// parsePointer parses a JSON pointer (RFC 6901).
func parsePointer(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	if text[0] != '/' {
		return nil, errPatch
	}
	parts := strings.Split(text[1:], "/")
	for i := range parts {
		parts[i] = unescapePointer.Replace(parts[i])
	}
	return parts, nil
}

// index returns the index that a part of a pointer names in a list of n elements; end allows n itself.
func index(part string, n int, end bool) (int, error) {
	if end && part == "-" {
		return n, nil
	}
	i, err := strconv.Atoi(part)
	if err != nil || i < 0 || i > n || i == n && !end || part != strconv.Itoa(i) {
		return 0, errPatch
	}
	return i, nil
}

func valueAt(doc any, path []string) (any, error) {
	for _, part := range path {
		switch d := doc.(type) {
		case map[string]any:
			value, ok := d[part]
			if !ok {
				return nil, errPatch
			}
			doc = value
		case []any:
			i, err := index(part, len(d), false)
			if err != nil {
				return nil, err
			}
			doc = d[i]
		default:
			return nil, errPatch
		}
	}
	return doc, nil
}

// change replaces the object or list that holds the end of a path by the result of fn, which gets the last part.
func change(doc any, path []string, fn func(parent any, last string) (any, error)) (any, error) {
	if len(path) == 1 {
		return fn(doc, path[0])
	}
	child, err := valueAt(doc, path[:1])
	if err == nil {
		child, err = change(child, path[1:], fn)
	}
	if err != nil {
		return nil, err
	}
	switch d := doc.(type) {
	case map[string]any:
		d[path[0]] = child
	case []any:
		i, _ := index(path[0], len(d), false)
		d[i] = child
	}
	return doc, nil
}

func addAt(doc any, path []string, value any) (any, error) {
	if len(path) == 0 {
		return value, nil
	}
	return change(doc, path, func(parent any, last string) (any, error) {
		switch d := parent.(type) {
		case map[string]any:
			d[last] = value
			return d, nil
		case []any:
			i, err := index(last, len(d), true)
			if err != nil {
				return nil, err
			}
			return slices.Insert(d, i, value), nil
		}
		return nil, errPatch
	})
}

func removeAt(doc any, path []string) (changed, removed any, err error) {
	if len(path) == 0 {
		return nil, doc, nil
	}
	changed, err = change(doc, path, func(parent any, last string) (any, error) {
		switch d := parent.(type) {
		case map[string]any:
			value, ok := d[last]
			if !ok {
				return nil, errPatch
			}
			removed = value
			delete(d, last)
			return d, nil
		case []any:
			i, err := index(last, len(d), false)
			if err != nil {
				return nil, err
			}
			removed = d[i]
			return slices.Delete(d, i, i+1), nil
		}
		return nil, errPatch
	})
	return changed, removed, err
}

// cloneJSON copies a value, so that a later change of one place does not change another.
func cloneJSON(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			out[name] = cloneJSON(member)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, element := range v {
			out[i] = cloneJSON(element)
		}
		return out
	}
	return value
}
