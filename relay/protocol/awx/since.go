package awx

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// maxTokens is the greatest number of tokens that count for one group. Of a longer list, the last ones count.
	maxTokens = 1_000
	// maxTokensPerMessage bounds the tokens of all groups. Beyond it, only the last token of each list counts.
	maxTokensPerMessage = 10_000
)

// since is the member "since" of a message: what the client has of each group.
type since struct {
	groups map[string]json.RawMessage
	// unreadable is set if the member is not an object. The client then resumes in no group, and hears so.
	unreadable bool
	tokens     int // read so far
}

// unreadable is the wish to resume from a position that no history has.
func unreadable() *relay.Resume { return &relay.Resume{After: []relay.Position{{}}} }

// parseSince parses the member. Without one, raw is empty.
func parseSince(raw json.RawMessage) (s since) {
	if len(raw) == 0 || isNull(raw) {
		return s
	}
	s.unreadable = json.Unmarshal(raw, &s.groups) != nil
	return s
}

// resume returns the client's wish for a group, nil if there is none. A value that is no wish is answered like a
// position that the history does not have: the client keeps its subscription and hears that it may have missed events.
// See docs/decisions/protocol-and-authz.md#why-does-an-unreadable-position-cost-no-subscription
func (s *since) resume(group string) *relay.Resume {
	if s.unreadable {
		return unreadable()
	}
	raw, ok := s.groups[group]
	if !ok || isNull(raw) {
		return nil
	}
	switch raw[0] {
	case '"':
		return s.after([]json.RawMessage{raw})
	case '[':
		var tokens []json.RawMessage
		if json.Unmarshal(raw, &tokens) != nil {
			return unreadable()
		}
		return s.after(tokens)
	case '{':
		return latest(raw)
	}
	return unreadable()
}

// after returns the wish to resume behind the last of some tokens, nil if there are none. Earlier tokens that cannot be
// read are left out; the last one counts as a position that no history has.
func (s *since) after(tokens []json.RawMessage) *relay.Resume {
	if len(tokens) == 0 {
		return nil
	}
	limit := max(min(maxTokens, maxTokensPerMessage-s.tokens), 1)
	tokens = tokens[max(len(tokens)-limit, 0):]
	s.tokens += len(tokens)
	r := &relay.Resume{After: make([]relay.Position, 0, len(tokens))}
	for i, raw := range tokens {
		position, err := parseToken(raw)
		if err == nil || i == len(tokens)-1 {
			r.After = append(r.After, position)
		}
	}
	return r
}

// parseToken parses a token in a JSON string. With an error, the position is zero.
func parseToken(raw json.RawMessage) (relay.Position, error) {
	var token string
	if err := json.Unmarshal(raw, &token); err != nil {
		return relay.Position{}, err
	}
	return relay.ParsePosition(token)
}

// latest returns the wish {"latest": n}, nil for 0. A number above all bounds is as good as the greatest one.
func latest(raw json.RawMessage) *relay.Resume {
	var wish map[string]json.RawMessage
	if json.Unmarshal(raw, &wish) != nil {
		return unreadable()
	}
	n, err := strconv.ParseUint(string(wish["latest"]), 10, 31)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return &relay.Resume{Latest: 1<<31 - 1}
	case err != nil:
		return unreadable()
	case n == 0:
		return nil
	}
	return &relay.Resume{Latest: int(n)}
}

func isNull(raw json.RawMessage) bool { return bytes.Equal(raw, []byte("null")) }

// Since returns a function that tells what a client wants of a group, by the member "since" of a message; nil: nothing.
// Other members are ignored, and the message may be empty.
func Since(message []byte) func(group string) *relay.Resume {
	var m struct {
		Since json.RawMessage `json:"since"`
	}
	_ = json.Unmarshal(message, &m) // without an object, there is no wish
	s := parseSince(m.Since)
	return s.resume
}
