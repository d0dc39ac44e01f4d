package configschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
)

// decode decodes a JSON value and keeps the text of numbers.
func decode(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err = d.Decode(&v); err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return v, nil
		}
		err = errors.New("trailing data")
	}
	return nil, err
}

func decodeList(text []byte) ([]any, error) {
	v, err := decode(text)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, errors.New("not an array")
	}
	return list, nil
}

// typeOf returns the type of a decoded value as a schema names it, "a number" for integers as well.
func typeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		if isInteger(v) {
			return "an integer"
		}
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	}
	return "an object"
}

func isType(v any, name string) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case json.Number:
		return name == "number" || name == "integer" && isInteger(v)
	case string:
		return name == "string"
	case []any:
		return name == "array"
	}
	return name == "object"
}

// isInteger reports whether a number has no fraction, as 3, 3.0 and 3e2.
func isInteger(n json.Number) bool {
	if !strings.ContainsAny(n.String(), ".eE") {
		return true
	}
	f, err := n.Float64()
	return err == nil && f == math.Trunc(f)
}

// canonical returns a text that equal values share: members are sorted, and 1, 1.0 and 1e0 are the same number.
func canonical(v any) string {
	b, err := json.Marshal(normalized(v))
	if err != nil {
		return ""
	}
	return string(b)
}

// normalized replaces the numbers in a decoded value. json.Marshal sorts members.
func normalized(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		switch {
		case err != nil:
			return v
		case f == math.Trunc(f) && math.Abs(f) < 1<<53:
			return json.Number(strconv.FormatFloat(f, 'f', 0, 64))
		case !strings.ContainsAny(v.String(), ".eE"):
			return v // an integer that a float64 cannot represent
		}
		return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = normalized(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = normalized(v[k])
		}
		return out
	}
	return v
}
