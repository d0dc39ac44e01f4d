package pyjson

import "errors"

// strictDepth is the greatest depth of a text that [Normalize] takes.
const strictDepth = 512

// ErrInvalid is the error of [Normalize] for a text that is not one JSON value of at most 512 levels.
var ErrInvalid = errors.New("invalid JSON")

// Normalize is [Append] for texts of clients: it takes no NaN and no infinite numbers, which browsers do not read, and
// at most 512 levels. After an error, which is [ErrInvalid], dst is unchanged.
func Normalize(dst, text []byte) ([]byte, error) {
	r := Reader{src: text, strict: true}
	out, err := r.Value(dst)
	if err == nil {
		err = r.End()
	}
	if err != nil {
		return dst, ErrInvalid
	}
	return out, nil
}
