// Package oneline joins errors on one line, for configurations: an operator sees each error after the name of a
// setting, and logs have one line for each.
package oneline

import "strings"

// joined has the errors of Join.
type joined []error

// Join returns the errors that are not nil as one, with "; " between their texts. It returns nil if all are nil.
func Join(errs ...error) error {
	var list joined
	for _, err := range errs {
		if err != nil {
			list = append(list, err)
		}
	}
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return list
}

// Error implements error.
func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the errors, for [errors.Is].
func (j joined) Unwrap() []error { return j }
