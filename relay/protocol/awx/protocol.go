package awx

import "github.com/edgerelay/edgerelay/relay"

// Protocol encodes the engine's own messages in AWX's protocol. It implements [relay.Protocol].
type Protocol struct{}

// logoutQueueLimit bounds the bytes queued before the logout text. Beyond it, the client is closed as a slow consumer.
const logoutQueueLimit = 1 << 20

// EndLogin implements [relay.Protocol].
func (Protocol) EndLogin(s relay.Socket) {
	relay.SendAnswer(s, relay.AppendFrame(nil, logoutText), logoutQueueLimit)
	s.Close(relay.CloseNormal, "")
}

// EncodeChange implements [relay.Protocol].
func (Protocol) EncodeChange(c relay.Change) []byte { return changeText(c) }
