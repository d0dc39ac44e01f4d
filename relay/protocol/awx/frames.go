package awx

import (
	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// Greeting returns the first frame of a connection, encoded: the client is authenticated.
func Greeting(id relay.Identity) []byte { return relay.AppendFrame(nil, acceptFrame(id.ID)) }

// acceptFrame returns the text of the greeting. id is a JSON value.
func acceptFrame(id string) []byte { return []byte(`{"accept": true, "user": ` + id + `}`) }

// errorFrame returns the text that rejects a message.
func errorFrame(text string) []byte {
	return append(pyjson.AppendString([]byte(`{"error": `), text), '}')
}

// denialFrame returns the text that denies a group.
func denialFrame(r groupRequest) []byte {
	return errorFrame("access denied to channel " + r.kind + " for resource id " + r.item)
}

// GroupsFrame returns the text that tells a client how its subscriptions changed.
func GroupsFrame(c relay.Change) []byte {
	b := pyjson.AppendStrings([]byte(`{"groups_current": `), c.Current)
	b = pyjson.AppendStrings(append(b, `, "groups_left": `...), c.Left)
	b = pyjson.AppendStrings(append(b, `, "groups_joined": `...), c.Joined)
	return append(b, '}')
}
