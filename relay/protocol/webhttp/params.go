package webhttp

import (
	"errors"
	"net/http"
	"strings"
)

// param is a parameter of a header's value, such as filter=skip-self. A parameter without "=" has an empty value.
type param struct{ name, value string }

var errQuote = errors.New("a quoted value has no end; close it with \"")

// splitValues splits the values of a header at the commas outside of quotes.
func splitValues(h http.Header, name string) (list []string) {
	for _, line := range h.Values(name) {
		for line != "" {
			end := findUnquoted(line, ',')
			if value := strings.TrimSpace(line[:end]); value != "" {
				list = append(list, value)
			}
			line = line[min(end+1, len(line)):]
		}
	}
	return list
}

// findUnquoted returns the index of the first c outside of quotes, the length of the text if there is none.
func findUnquoted(text string, c byte) int {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case !quoted && text[i] == c:
			return i
		}
	}
	return len(text)
}

// cutValue returns the part of a header's value before its parameters, which can have any characters but a semicolon,
// and the parameters.
func cutValue(text string) (first string, params []param, err error) {
	first, rest, _ := strings.Cut(text, ";")
	params, err = parseParams(rest)
	return strings.TrimSpace(first), params, err
}

// parseParams parses parameters that semicolons separate. In a quoted value, a backslash takes the next character as it
// is.
func parseParams(text string) (list []param, err error) {
	for text != "" {
		end := findUnquoted(text, ';')
		part := text[:end]
		text = text[min(end+1, len(text)):]
		name, value, _ := strings.Cut(part, "=")
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if value, err = unquote(strings.TrimSpace(value)); err != nil {
			return nil, err
		}
		list = append(list, param{name, value})
	}
	return list, nil
}

// unquote returns the content of a value in quotes, and any other value as it is.
func unquote(text string) (string, error) {
	if !strings.HasPrefix(text, `"`) {
		return text, nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			if i++; i == len(text) {
				return "", errQuote
			}
			b.WriteByte(text[i])
		case '"':
			return b.String(), nil
		default:
			b.WriteByte(text[i])
		}
	}
	return "", errQuote
}

// valueOf returns the value of the first parameter with a name.
func valueOf(params []param, name string) (value string, has bool) {
	for _, p := range params {
		if strings.EqualFold(p.name, name) {
			return p.value, true
		}
	}
	return "", false
}
