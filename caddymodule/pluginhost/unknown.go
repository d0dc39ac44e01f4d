package pluginhost

import (
	"encoding/json"
	"reflect"
	"strings"
)

// unknown are the members of a record that this version of edgerelay does not know, as JSON without the braces. A node
// that changes a record keeps them, so that an older node does not undo what a newer one has written.
type unknown string

// decodeKeeping decodes a JSON object into a struct, and returns the members without a field.
func decodeKeeping(b []byte, into any) (unknown, error) {
	if err := json.Unmarshal(b, into); err != nil {
		return "", err
	}
	var rest map[string]json.RawMessage
	if err := json.Unmarshal(b, &rest); err != nil {
		return "", err
	}
	fields := reflect.TypeOf(into).Elem()
	for i := range fields.NumField() {
		known, _, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		for name := range rest { // as json.Unmarshal matches names
			if strings.EqualFold(name, known) {
				delete(rest, name)
			}
		}
	}
	if len(rest) == 0 {
		return "", nil
	}
	text, err := json.Marshal(rest)
	return unknown(text[1 : len(text)-1]), err
}

// encodeKeeping encodes a struct with further members.
func encodeKeeping(from any, rest unknown) ([]byte, error) {
	b, err := json.Marshal(from)
	if err != nil || rest == "" {
		return b, err
	}
	b = b[:len(b)-1]
	if len(b) > 1 {
		b = append(b, ',')
	}
	return append(append(b, rest...), '}'), nil
}

// The types of records without their methods.
type (
	plainRecord record
	plainEntry  entry
	plainCanary canaryRecord
)

// UnmarshalJSON implements [json.Unmarshaler].
func (r *record) UnmarshalJSON(b []byte) (err error) {
	r.rest, err = decodeKeeping(b, (*plainRecord)(r))
	return err
}

// MarshalJSON implements [json.Marshaler].
func (r *record) MarshalJSON() ([]byte, error) { return encodeKeeping((*plainRecord)(r), r.rest) }

// UnmarshalJSON implements [json.Unmarshaler].
func (e *entry) UnmarshalJSON(b []byte) (err error) {
	e.rest, err = decodeKeeping(b, (*plainEntry)(e))
	return err
}

// MarshalJSON implements [json.Marshaler].
func (e *entry) MarshalJSON() ([]byte, error) { return encodeKeeping((*plainEntry)(e), e.rest) }

// UnmarshalJSON implements [json.Unmarshaler].
func (c *canaryRecord) UnmarshalJSON(b []byte) (err error) {
	c.rest, err = decodeKeeping(b, (*plainCanary)(c))
	return err
}

// MarshalJSON implements [json.Marshaler].
func (c *canaryRecord) MarshalJSON() ([]byte, error) { return encodeKeeping((*plainCanary)(c), c.rest) }
