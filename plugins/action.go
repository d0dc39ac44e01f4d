package plugins

// ActionKind is the kind of an [Action].
type ActionKind uint8

// Kinds of actions.
const (
	ActionSend    ActionKind = iota // send Payload to the client, as text or binary
	ActionJoin                      // subscribe the client to Group
	ActionLeave                     // end the client's subscription to Group
	ActionPublish                   // publish a message to Group on all nodes: Payload of type Type
	ActionClose                     // close the client's connection with Code and the reason Payload
)

// Action is an effect of a function's hook. Actions take effect in order, after the hook has succeeded.
type Action struct {
	Kind   ActionKind
	Binary bool   // of ActionSend
	Others bool   // of ActionPublish: the client itself does not get it
	Code   uint16 // of ActionClose
	// Hops is the Hops of the event that an ActionPublish makes, see [Event.Hops]. It matters where plugins process the
	// event.
	Hops    int
	Group   string
	Type    string // of ActionPublish; empty: the payload is the text that clients get
	Payload []byte
}
