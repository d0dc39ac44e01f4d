package channels

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Template is a text with placeholders, such as chat_{room}. A placeholder is the name of a parameter of the path,
// "user" for the user's id, "user." and the name of a claim, or a placeholder of Caddy. The zero Template is empty.
type Template struct {
	source string
	// parts alternate: texts at even indexes, names of placeholders at odd ones.
	parts []string
}

// ParseTemplate reads a template.
func ParseTemplate(source string) (Template, error) {
	t := Template{source: source}
	for rest := source; ; {
		text, after, open := strings.Cut(rest, "{")
		if strings.Contains(text, "}") {
			return Template{}, fmt.Errorf("template %q has a } without {", source)
		}
		if t.parts = append(t.parts, text); !open {
			return t, nil
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed || name == "" || strings.Contains(name, "{") {
			return Template{}, fmt.Errorf("template %q: a placeholder is a name in braces, such as {user}", source)
		}
		t.parts, rest = append(t.parts, name), tail
	}
}

// placeholder matches placeholders of a text that may have braces of its own, such as JSON.
var placeholder = regexp.MustCompile(`\{([A-Za-z_][A-Za-z0-9_.-]*)\}`)

// ParseText reads a text in which only a name in braces is a placeholder; all other braces stand for themselves, as in
// JSON.
func ParseText(source string) Template {
	t := Template{source: source}
	at := 0
	for _, found := range placeholder.FindAllStringSubmatchIndex(source, -1) {
		t.parts = append(t.parts, source[at:found[0]], source[found[2]:found[3]])
		at = found[1]
	}
	t.parts = append(t.parts, source[at:])
	return t
}

// Render returns the template with the value of each placeholder in its place. value gets the text before the
// placeholder, with the values in it.
func (t Template) Render(value func(before, name string) (string, error)) (string, error) {
	text := t.parts[0]
	for i := 1; i < len(t.parts); i += 2 {
		v, err := value(text, t.parts[i])
		if err != nil {
			return "", fmt.Errorf("{%s}: %w", t.parts[i], err)
		}
		text += v + t.parts[i+1]
	}
	return text, nil
}

// String returns the template as it was written.
func (t Template) String() string { return t.source }

// Names returns the names of the placeholders in their order.
func (t Template) Names() (names []string) {
	for i := 1; i < len(t.parts); i += 2 {
		names = append(names, t.parts[i])
	}
	return names
}

// Single returns the name of the placeholder that is the whole template, or an empty text.
func (t Template) Single() string {
	if len(t.parts) == 3 && t.parts[0] == "" && t.parts[2] == "" {
		return t.parts[1]
	}
	return ""
}

// OfUser reports whether a placeholder's value comes from the authenticated user.
func OfUser(name string) bool { return name == "user" || strings.HasPrefix(name, "user.") }

// Granted reports whether the operator alone, and the user's identity, decide what the template becomes: it has no
// placeholder that a client chooses.
func (t Template) Granted() bool {
	for _, name := range t.Names() {
		if !OfUser(name) {
			return false
		}
	}
	return true
}

// Check returns an error for a granted template whose placeholders cannot be told apart: two users could get the same
// group.
func (t Template) Check() error {
	for i := 3; i < len(t.parts); i += 2 {
		if t.parts[i-1] == "" && t.Granted() {
			return fmt.Errorf("template %q: {%s} follows {%s} without a text between; write one, such as -", t.source,
				t.parts[i], t.parts[i-2])
		}
	}
	return nil
}

// Matches reports whether the template can become a text.
func (t Template) Matches(text string) bool {
	expr := "^" + regexp.QuoteMeta(t.parts[0])
	for i := 2; i < len(t.parts); i += 2 {
		expr += ".+" + regexp.QuoteMeta(t.parts[i])
	}
	ok, err := regexp.MatchString(expr+"$", text)
	return ok && err == nil
}

// Errors of [Template.Expand].
var (
	// ErrNoValue means that a placeholder has no value, or an empty one.
	ErrNoValue = errors.New("the placeholder has no value")
	// ErrAmbiguous means that the text behind a user's value does not tell where the value ends.
	ErrAmbiguous = errors.New("the value contains the text that follows the placeholder")
	// errTooMany bounds the groups that lists of claims make.
	errTooMany = fmt.Errorf("the template becomes more than %d groups", maxExpansions)
)

const maxExpansions = 1000

// Expand returns the texts that the template becomes: one for each combination of values of the placeholders. Without a
// value, the error is [ErrNoValue], except for an empty list of claims, which makes no text.
func (t Template) Expand(lookup func(name string) []string) ([]string, error) {
	texts := []string{t.parts[0]}
	for i := 1; i < len(t.parts); i += 2 {
		values := lookup(t.parts[i])
		if values == nil {
			return nil, fmt.Errorf("{%s}: %w", t.parts[i], ErrNoValue)
		}
		if len(texts)*len(values) > maxExpansions {
			return nil, errTooMany
		}
		separator := ""
		if i+2 < len(t.parts) && t.Granted() { // another placeholder follows
			separator = t.parts[i+1]
		}
		var longer []string
		for _, text := range texts {
			for _, v := range values {
				switch {
				case v == "":
					return nil, fmt.Errorf("{%s}: %w", t.parts[i], ErrNoValue)
				case separator != "" && strings.Index(v+separator, separator) != len(v):
					return nil, fmt.Errorf("{%s}: %w", t.parts[i], ErrAmbiguous)
				}
				longer = append(longer, text+v+t.parts[i+1])
			}
		}
		texts = longer
	}
	return texts, nil
}
