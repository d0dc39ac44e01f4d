package plugins

import (
	"encoding/json"
	"slices"
	"strings"
)

const (
	// concealed stands for a secret in a text.
	concealed = "•••"
	// minSecret is the length of the shortest secret that is concealed, in bytes. A shorter text occurs by chance.
	minSecret = 4
	// minSecretLine is the length of the shortest line of a secret of several lines that is concealed by itself.
	minSecretLine = 8
)

// concealer replaces secrets in the texts by which a plugin could write its configuration to logs, errors and reasons.
// It guards against mistakes: a module that encodes a secret differently is not stopped. A nil concealer replaces
// nothing.
type concealer struct {
	secrets  []string // longest first
	replacer *strings.Replacer
}

// newConcealer returns a concealer of secrets, as they are and as JSON strings, which is how the module reads them.
func newConcealer(secrets []string) *concealer {
	var list []string
	for _, s := range secrets {
		list = append(list, spellings(s)...)
		if lines := strings.Split(s, "\n"); len(lines) > 1 {
			for _, l := range lines {
				if l = strings.TrimSpace(l); len(l) >= minSecretLine {
					list = append(list, spellings(l)...)
				}
			}
		}
	}
	list = slices.DeleteFunc(list, func(s string) bool { return len(s) < minSecret })
	if len(list) == 0 {
		return nil
	}
	slices.SortFunc(list, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	list = slices.Compact(list)
	pairs := make([]string, 0, 2*len(list))
	for _, s := range list {
		pairs = append(pairs, s, concealed)
	}
	return &concealer{list, strings.NewReplacer(pairs...)}
}

// spellings returns a text and the same text within a JSON string.
func spellings(s string) []string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	list := []string{s}
	if encoder.Encode(s) == nil {
		list = append(list, strings.Trim(strings.TrimSuffix(b.String(), "\n"), `"`))
	}
	if escaped, err := json.Marshal(s); err == nil {
		list = append(list, strings.Trim(string(escaped), `"`))
	}
	return list
}

// text returns s without the secrets.
func (c *concealer) text(s string) string {
	if c == nil {
		return s
	}
	return c.replacer.Replace(s)
}

// cut is like text for the beginning of a longer text. It conceals a secret whose end was cut off, too.
func (c *concealer) cut(s string) string {
	s = c.text(s)
	if c == nil {
		return s
	}
	for _, secret := range c.secrets {
		for n := min(len(secret)-1, len(s)); n >= minSecret; n-- {
			if strings.HasSuffix(s, secret[:n]) {
				return s[:len(s)-n] + concealed
			}
		}
	}
	return s
}

// split returns a part of a longer text without the secrets, and the end of the part, if a secret may begin there: the
// next part is to begin with that end. The end is at most half as long as a log line.
func (c *concealer) split(s string) (part, end string) {
	s = c.text(s)
	if c == nil {
		return s, ""
	}
	longest := 0
	for _, secret := range c.secrets {
		for n := min(len(secret)-1, len(s)-1, maxLogText/2); n > longest; n-- {
			if strings.HasSuffix(s, secret[:n]) {
				longest = n
			}
		}
	}
	return s[:len(s)-longest], s[len(s)-longest:]
}

// error returns err with a text without the secrets.
func (c *concealer) error(err error) error {
	if c == nil || err == nil {
		return err
	}
	if text := c.text(err.Error()); text != err.Error() {
		return &concealedError{text, err}
	}
	return err
}

// concealedError is an error with another text.
type concealedError struct {
	text string
	err  error
}

func (e *concealedError) Error() string { return e.text }
func (e *concealedError) Unwrap() error { return e.err }
