package webhttp

// phase is the phase of a connection.
type phase uint8

const (
	// opening: the backend has not answered OPEN.
	opening phase = iota
	// open: events pass in both directions.
	open
	// detaching: the backend has detached, and is to be told that this connection is over for it, as by Pushpin.
	detaching
	// detached: the backend gets no more requests; the client's messages are dropped and its subscriptions stay.
	detached
	// closed: the backend has closed; the client has not answered the close frame.
	closed
	// closing: the client has closed, and the backend is to be told.
	closing
	// leaving: the client is gone without a close, and the backend is to be told.
	leaving
	// ended: nothing is left to do.
	ended
)

// input is something that can change the phase.
type input uint8

const (
	backendAccepts     input = iota // the backend has answered OPEN
	backendDetaches                 // c:detach
	backendCloses                   // CLOSE of the backend
	backendDisconnects              // DISCONNECT of the backend
	clientCloses                    // the client's close frame
	clientLeaves                    // the end of the client's connection, after a close as well
	requestFails                    // the backend answered nonsense, or late
	backendIsAway                   // the backend cannot be reached, so there is no use in telling it anything
	endIsTold                       // the request with CLOSE or DISCONNECT is over
)

// after returns the phase after an input. An input without a meaning in a phase leaves the phase as it is.
func (p phase) after(in input) phase {
	if p == ended || in == backendIsAway {
		return ended
	}
	switch p {
	case opening:
		switch in {
		case backendAccepts:
			return open
		case requestFails, backendDisconnects:
			return ended
		}
	case open, closed:
		switch in {
		case backendDetaches:
			return detaching
		case backendCloses:
			return closed
		case backendDisconnects:
			return ended
		case clientCloses:
			return closing
		case clientLeaves, requestFails:
			return leaving
		}
	case detaching:
		switch in {
		case endIsTold:
			return detached
		case clientCloses:
			return closing
		case clientLeaves, requestFails:
			return leaving
		case backendDisconnects:
			return ended
		}
	case detached:
		switch in {
		case clientCloses, clientLeaves, backendDisconnects, requestFails:
			return ended
		}
	case closing, leaving:
		switch in {
		case endIsTold, backendDisconnects, requestFails:
			return ended
		}
	}
	return p
}

// takesMessages reports whether the client's messages go to the backend.
func (p phase) takesMessages() bool { return p == open }

// tells reports whether the backend is to be told about the end.
func (p phase) tells() bool { return p == detaching || p == closing || p == leaving }

// changes reports whether the backend's answers can change the connection.
func (p phase) changes() bool { return p == open || p == detaching }
