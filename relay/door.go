package relay

// Door is the way by which a client is connected.
type Door uint8

// The doors.
const (
	// DoorWebSocket is a WebSocket, whatever the version of HTTP.
	DoorWebSocket Door = iota
	// DoorEventStream is an event stream: a response that does not end.
	DoorEventStream
	// DoorLongPoll is a long poll: a request that is answered when there is something to say.
	DoorLongPoll
	// DoorHold is a response of the site that the relay holds.
	DoorHold
	// DoorCount is the number of doors.
	DoorCount
)

// String returns the door's name in metrics and the admin API.
func (d Door) String() string {
	switch d {
	case DoorEventStream:
		return "event_stream"
	case DoorLongPoll:
		return "long_poll"
	case DoorHold:
		return "hold"
	}
	return "websocket"
}
