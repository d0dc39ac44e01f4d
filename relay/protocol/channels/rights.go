package channels

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
)

var _ relay.RightsFormat = (*Route)(nil)

// SameRights implements [relay.RightsFormat]: the members of the profile of which the route's groups are made have the
// same values. The order of a list has no meaning.
func (r *Route) SameRights(before, now string) bool {
	settings := r.settings.Load()
	if settings == nil || len(settings.Claims) == 0 || before == now {
		return true
	}
	var old, current map[string]json.RawMessage
	if json.Unmarshal([]byte(before), &old) != nil || json.Unmarshal([]byte(now), &current) != nil {
		return false
	}
	return !slices.ContainsFunc(settings.Claims, func(name string) bool {
		return !slices.Equal(elements(old[name]), elements(current[name]))
	})
}

// elements returns the elements of a list, sorted, or the value alone.
func elements(raw json.RawMessage) (texts []string) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || list == nil {
		list = []json.RawMessage{raw}
	}
	for _, value := range list {
		text, err := json.Marshal(value)
		if err != nil {
			return nil
		}
		texts = append(texts, string(text))
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// NeedsAllGroups implements [relay.RightsFormat]: the messages of a client go to groups that it may see.
func (r *Route) NeedsAllGroups() bool {
	settings := r.settings.Load()
	return settings != nil && settings.Messages.Action == PublishMessages
}

// GrantClaims returns the members of the user's profile of which granted templates are made, each once.
func GrantClaims(templates ...Template) (claims []string) {
	for _, t := range templates {
		for _, name := range t.Names() {
			claim, ok := strings.CutPrefix(name, "user.")
			if ok && t.Granted() && !slices.Contains(claims, claim) {
				claims = append(claims, claim)
			}
		}
	}
	return claims
}
