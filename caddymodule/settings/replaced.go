package settings

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Replacement is a setting of an earlier version that this version refuses.
type Replacement struct {
	// Block and Setting name the setting, as in a Caddyfile; Block is the name in errors, such as "limits".
	Block, Setting string
	// Since is the version that refuses the setting.
	Since string
	// Write is the line to write instead; empty if the setting has no successor, and the line is to be deleted.
	Write string
}

// replacements are all settings that were renamed or removed. An upgrade must not leave the operator with an unknown
// setting. docs/upgrading.md lists the same.
var replacements = []Replacement{}

// Error returns the refusal, with the line to write.
func (r Replacement) Error() string {
	remedy := "delete the line"
	if r.Write != "" {
		remedy = fmt.Sprintf("write %q instead", r.Write)
	}
	return fmt.Sprintf("%s: %s is refused since %s; %s", r.Block, r.Setting, r.Since, remedy)
}

// replaced returns the replacement of a setting.
func replaced(block, setting string) (Replacement, bool) {
	i := slices.IndexFunc(replacements, func(r Replacement) bool { return r.Block == block && r.Setting == setting })
	if i < 0 {
		return Replacement{}, false
	}
	return replacements[i], true
}

// CheckReplaced returns an error if a block's JSON has a setting that was renamed or removed. A struct with such a
// setting calls it in UnmarshalJSON, before Caddy reports an unknown field.
func CheckReplaced(block string, text json.RawMessage) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil //nolint:nilerr // the struct's own decoding describes it
	}
	for name := range members {
		if r, ok := replaced(block, strings.ToLower(name)); ok {
			return r
		}
	}
	return nil
}
