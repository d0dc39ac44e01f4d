package awx

import (
	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// Greeting returns the first frame of a connection, encoded: the client is authenticated.
func Greeting(id relay.Identity) []byte { return relay.AppendFrame(nil, acceptText(id.ID)) }

// acceptText returns the text of the greeting. id is a JSON value.
func acceptText(id string) []byte { return []byte(`{"accept": true, "user": ` + id + `}`) }

// errorText returns the text that rejects a message.
func errorText(text string) []byte {
	return append(pyjson.AppendString([]byte(`{"error": `), text), '}')
}

// denialText returns the text that denies a group.
func denialText(r groupRequest) []byte {
	return errorText("access denied to channel " + r.kind + " for resource id " + r.item)
}

// logoutText tells a client that it is not logged in. AWX's pages do not reconnect after it.
var logoutText = []byte(`{"close": true}`)

// changeText returns the text that tells a client how its subscriptions changed.
func changeText(c relay.Change) []byte {
	b := pyjson.AppendStrings([]byte(`{"groups_current": `), c.Current)
	b = pyjson.AppendStrings(append(b, `, "groups_left": `...), c.Left)
	b = pyjson.AppendStrings(append(b, `, "groups_joined": `...), c.Joined)
	return append(b, '}')
}
