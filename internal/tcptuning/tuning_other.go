//go:build !linux

package tcptuning

import "net"

// ApplyFD is [Options.Apply] for the descriptor of a TCP socket. It sets nothing: the options are those of Linux.
func (o Options) ApplyFD(int) {}

// CapsRetransmission reports whether this kernel can bound the pauses between transmissions.
func CapsRetransmission() bool { return false }

// Retransmits returns 0: the kernel does not tell how many times it has sent the same bytes.
func Retransmits(*net.TCPConn) int { return 0 }

// Repeated returns 0: the kernel does not tell how many packets it has sent again.
func Repeated(*net.TCPConn) int { return 0 }
