//go:build !linux

package tcptuning

// ApplyFD is [Options.Apply] for the descriptor of a TCP socket. It sets nothing: the options are those of Linux.
func (o Options) ApplyFD(int) {}

// CapsRetransmission reports whether this kernel can bound the pauses between transmissions.
func CapsRetransmission() bool { return false }
