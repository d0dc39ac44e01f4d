package tcptuning

import (
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filterTakesEffect is longer than the kernel works on a packet that arrived before the filter was set.
const filterTakesEffect = time.Millisecond

// Queued returns the send queue of a connection, false if the kernel does not tell.
func Queued(conn *net.TCPConn) (queue SendQueue, ok bool) {
	_ = control(conn, func(fd int) { queue, ok = sendQueue(fd) })
	return queue, ok
}

// Abort ends a connection at once, without sending queued bytes, and returns the queue from then. It returns false if
// the queue has changed meanwhile; the connection has ended in any case.
//
// An acknowledgment lets the kernel send more of the queue. So a filter drops all packets that arrive from then on, the
// queue is read, and the connection is ended. The kernel keeps the numbers of the first unacknowledged and of the first
// unsent byte, and moves the end of the queue. If the distance of these two is the same as before, nothing has left
// between reading and ending.
// See docs/decisions/backplane.md#which-events-does-a-python-node-get-again
func Abort(conn *net.TCPConn) (queue SendQueue, exact bool) {
	filtered := false
	if control(conn, func(fd int) { filtered = dropArriving(fd) }) != nil {
		return SendQueue{}, false
	}
	if filtered {
		time.Sleep(filterTakesEffect)
	}
	_ = control(conn, func(fd int) {
		before, ok := sendQueue(fd)
		disconnected := disconnect(fd)
		after, still := sendQueue(fd)
		queue = before
		exact = filtered && ok && disconnected && still &&
			after.Unacknowledged-after.Unsent == before.Unacknowledged-before.Unsent
	})
	return queue, exact
}

func control(conn *net.TCPConn, f func(fd int)) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

func sendQueue(fd int) (SendQueue, bool) {
	unacknowledged, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return SendQueue{}, false
	}
	unsent, err := unix.IoctlGetInt(fd, unix.SIOCOUTQNSD)
	return SendQueue{unacknowledged, unsent}, err == nil
}

// dropArriving makes the kernel ignore all further packets of the other side.
func dropArriving(fd int) bool {
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	program := unix.SockFprog{Len: 1, Filter: &drop}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program) == nil
}

// disconnect ends the connection with a reset. Connecting to no address does that, and keeps the descriptor.
func disconnect(fd int) bool {
	nowhere := unix.RawSockaddrUnix{Family: unix.AF_UNSPEC}
	_, _, errno := syscall.Syscall(
		unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nowhere)), unix.SizeofSockaddrInet4)
	return errno == 0
}
