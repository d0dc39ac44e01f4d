package rules

import (
	"encoding/json"
	"strconv"
	"strings"
)

// maxValues bounds the values of one placeholder.
const maxValues = 1024

// ClaimValues returns the values of a member of claims, a JSON object that was decoded with numbers as [json.Number].
// A path such as "realm.roles" leads through nested objects; a member with a dot in its name is found first. Text,
// numbers and booleans are values, and a list has the values of its elements. Anything else has none.
func ClaimValues(claims map[string]any, path string) []string {
	value, ok := claims[path]
	for !ok {
		name, rest, nested := strings.Cut(path, ".")
		if !nested {
			return nil
		}
		if claims, ok = claims[name].(map[string]any); !ok {
			return nil
		}
		path = rest
		value, ok = claims[path]
	}
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	var values []string
	for _, element := range list[:min(len(list), maxValues)] {
		switch v := element.(type) {
		case string:
			values = append(values, v)
		case json.Number:
			values = append(values, v.String())
		case bool:
			values = append(values, strconv.FormatBool(v))
		}
	}
	return values
}

// UserValues returns the values of the placeholders {user}, the user's key, and {user.<path>}, a member of the claims.
// Other placeholders have none.
func UserValues(key string, claims map[string]any) func(name string) []string {
	return func(name string) []string {
		if name == "user" {
			return []string{key}
		}
		path, ok := strings.CutPrefix(name, "user.")
		if !ok {
			return nil
		}
		return ClaimValues(claims, path)
	}
}

// CheckUserPlaceholders returns an error for a placeholder that [UserValues] does not know.
func (r Rules) CheckUserPlaceholders() error {
	for _, name := range r.Placeholders() {
		if name != "user" && !strings.HasPrefix(name, "user.") {
			return unknownPlaceholderError(name)
		}
	}
	return nil
}

// unknownPlaceholderError is the error for a placeholder that has no values.
type unknownPlaceholderError string

func (e unknownPlaceholderError) Error() string {
	return "unknown placeholder {" + string(e) + "}; use {user}, or {user.<claim>} such as {user.org}"
}
