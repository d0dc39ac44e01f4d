//go:build linux && !386

package netpoll

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// A socket is written and read by descriptor, past net.Conn and the runtime's poller: their locks, cold in the cache
// for every client, cost as much as a quarter of the system call. The descriptor is valid until Close, which the
// Conn's lock keeps apart from reads and writes.

// socketOf returns the descriptor of a TCP or Unix socket, noFD for anything else.
func socketOf(conn net.Conn) int32 {
	var raw syscall.RawConn
	var err error
	switch c := conn.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	default:
		return noFD
	}
	if err != nil {
		return noFD
	}
	fd := int32(noFD)
	if err := raw.Control(func(number uintptr) { fd = int32(number) }); err != nil {
		return noFD
	}
	return fd
}

// send returns how many bytes the socket accepted without blocking, possibly none.
// See docs/decisions/transport.md#why-do-writes-bypass-netconn-and-the-runtimes-poller
func send(fd int32, b []byte) (int, error) {
	for {
		// A raw system call does not tell the scheduler, which need not know of a call that cannot block.
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
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

// receive returns how many bytes could be read without blocking: errWouldBlock if there are none.
func receive(fd int32, b []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			syscall.MSG_DONTWAIT|flags, 0, 0)
		switch {
		case errno == syscall.EAGAIN:
			return 0, errWouldBlock
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
