package edgerelay

// Hooks are the hooks of a plugin, for a [Host]. A hook that the plugin does not have is nil.
type Hooks struct {
	OnEvent     func(*Event) Verdict
	OnClass     func(class uint8, e *Event) Verdict
	OnSubscribe func(*Request) Answer
	OnTick      func() error

	// The hooks of a function; see package function.
	OnInit    func() error
	OnConnect func(*Connect) Admission
	OnMessage func(*Client, *Message) error
	OnClose   func(*Client, *Closing) error
	OnResult  Results
	OnAlarm   func(*Alarm) error
}

// Results are the continuations of a plugin, by the names that [Then] uses. The client of a response is the one whose
// hook made the request; see [Client.Present].
type Results map[string]func(*Client, *Response) error

var registered Hooks

// Registered returns the hooks that package function registers. Plugins do not call it.
func Registered() *Hooks { return &registered }

// unknownContinuation is the name of a continuation that the plugin does not have.
type unknownContinuation string

func (name unknownContinuation) Error() string {
	return "a response is for the continuation " + Quote(string(name)) + ", which is not registered"
}
