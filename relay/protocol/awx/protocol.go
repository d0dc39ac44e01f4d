package awx

import "github.com/edgerelay/edgerelay/relay"

// Protocol is AWX's dialect of what the engine tells clients. It implements [relay.Protocol].
type Protocol struct{}

// farewell is AWX's message to a client that is not logged in. AWX's pages then do not reconnect.
var farewell = []byte(`{"close": true}`)

// farewellQueue bounds the bytes queued before a farewell: a client that far behind is closed without one.
const farewellQueue = 1 << 20

// EndLogin implements [relay.Protocol].
func (Protocol) EndLogin(s relay.Socket) {
	s.Send(relay.AppendFrame(nil, farewell), farewellQueue)
	s.Close(relay.CloseNormal, "")
}

// EncodeChange implements [relay.Protocol].
func (Protocol) EncodeChange(c relay.Change) []byte { return GroupsFrame(c) }
