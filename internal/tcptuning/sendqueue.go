package tcptuning

// SendQueue describes the bytes that were written to a connection and that the other side's kernel may lack. All counts
// are from the end of the written bytes.
type SendQueue struct {
	// Unacknowledged is the number of bytes that the other side's kernel has not acknowledged.
	Unacknowledged int
	// Unsent is the number of bytes, among these, that never left: the other side cannot have them.
	Unsent int
}
