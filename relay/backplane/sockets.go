package backplane

import (
	"net"
	"time"

	"github.com/edgerelay/edgerelay/internal/tcptuning"
)

// maxRTO is the longest pause between transmissions of the same bytes, so that a link carries events again soon after
// an outage.
const maxRTO = time.Second

// socketOptions are the kernel's limits for a link, which follow Silence.
func (b *Backplane) socketOptions() tcptuning.Options {
	s := b.settings.Load()
	return tcptuning.Options{UserTimeout: s.Silence, MaxRTO: maxRTO, KeepAlive: s.Silence / 4}
}

// tuneSocket sets the options of an established connection to a peer, and bounds the kernel's send buffer.
func (b *Backplane) tuneSocket(conn net.Conn) {
	b.socketOptions().Apply(conn)
	socket := tcptuning.Socket(conn)
	if socket == nil {
		return // such as a Unix socket, whose buffers are small
	}
	wakeSoon(socket)
	_ = socket.SetWriteBuffer(socketBuffer) // larger buffers only delay pings
}
