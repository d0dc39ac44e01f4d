//go:build !unix

package netpoll

import "net"

// socketPair returns both ends of a TCP connection over the loopback interface.
func socketPair() (near, far net.Conn, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = ln.Close() }()
	if far, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		return nil, nil, err
	}
	if near, err = ln.Accept(); err != nil {
		_ = far.Close()
		return nil, nil, err
	}
	return near, far, nil
}
