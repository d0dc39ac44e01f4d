//go:build unix

package netpoll

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// socketPair returns two connected Unix sockets.
func socketPair() (near, far net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		syscall.CloseOnExec(fd)
		file := os.NewFile(uintptr(fd), "self-test")
		conn, fileErr := net.FileConn(file) // a duplicate
		_ = file.Close()
		if fileErr != nil {
			err = fileErr
			continue
		}
		conns[i] = conn
	}
	if err != nil {
		for _, conn := range conns {
			if conn != nil {
				_ = conn.Close()
			}
		}
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return conns[0], conns[1], nil
}
