//go:build linux && !386

package ws

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// A socket is written and read by its number, past net.Conn and the runtime's poller: their locks, cold in the cache at every client,
// cost as much as a quarter of the system call. The number is good until Kill, which the Conn's lock keeps
// apart from both.

// noSocket is the number of a connection that is not a plain socket.
const noSocket = -1

// socketOf returns the number of a TCP or Unix socket, noSocket for anything else.
func socketOf(conn net.Conn) int32 {
	var raw syscall.RawConn
	var err error
	switch c := conn.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	default:
		return noSocket
	}
	if err != nil {
		return noSocket
	}
	return number(raw)
}

func number(raw syscall.RawConn) int32 {
	number := int32(noSocket)
	if err := raw.Control(func(fd uintptr) { number = int32(fd) }); err != nil {
		return noSocket
	}
	return number
}

// sendNow returns how many bytes the socket took without waiting, possibly none.
func sendNow(socket int32, b []byte) (int, error) {
	for {
		// Raw: it does not block, so the scheduler need not know.
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(socket), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EAGAIN, syscall.ENOBUFS, syscall.ENOMEM: // the last two pass
			return 0, nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// receiveNow returns how many bytes there were to read, without waiting for any: errNothing where there are none.
func receiveNow(socket int32, b []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(socket), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT|flags, 0, 0)
		switch {
		case errno == syscall.EAGAIN:
			return 0, errNothing
		case errno == syscall.EINTR:
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}
