package relay

// Redaction says what subscribers of which class are shown of an event. A subscription's class, 0 to 63, is
// what it was subscribed with; 0 unless an [Interceptor] said otherwise.
type Redaction struct {
	// Classes has bit c set if subscribers of class c get the event.
	Classes uint64
	// Render, if not nil, returns what subscribers of a class get in place of the event's text, and false if they get nothing. It is
	// called once for each class that has subscribers on this node.
	Render func(class uint8) (text []byte, ok bool)
}
