// Package tcptuning sets the options with which the kernel notices a dead TCP connection in time, and with which a
// connection carries bytes again soon after the network has returned.
//
// By default, Linux sends unacknowledged bytes again for about 15 minutes, at last every two minutes: after an outage
// of 20 s, the next attempt may be 20 s away. [Options] bounds both times.
package tcptuning

import (
	"net"
	"reflect"
	"syscall"
	"time"
)

// Options are the settings of one socket. Zero values leave the kernel's defaults. On systems other than Linux, only
// keepalive is set.
type Options struct {
	// UserTimeout ends a connection whose bytes, or whose keepalive probes, the other side has not acknowledged for
	// this time, or whose other side has had no room for further bytes for this time. While a connection is being made,
	// it bounds that as well.
	UserTimeout time.Duration
	// MaxRTO is the longest pause between two transmissions of the same bytes, also of a SYN. The kernel accepts 1 s to
	// 120 s. It has an effect only together with UserTimeout: the kernel counts attempts otherwise, and a connection
	// would end after about 13 s with a cap of 1 s. Linux before 6.15 lacks the option, and keeps its growing pauses.
	MaxRTO time.Duration
	// KeepAlive is the time without traffic after which the kernel probes the other side, and then the time between
	// probes. With UserTimeout, unanswered probes end the connection after that time.
	KeepAlive time.Duration
	// MaxSegment bounds the payload of packets, in bytes and in both directions, if it is set before the connection is
	// made.
	MaxSegment int
}

// maxWrappers bounds the wrappers around a socket.
const maxWrappers = 8

// Apply sets the options of the TCP socket beneath a connection: beneath TLS, and beneath wrappers that embed a
// net.Conn. It returns false if there is none, such as for a Unix socket. Options that the kernel does not know are
// left out.
func (o Options) Apply(conn net.Conn) bool {
	tcp := Socket(conn)
	if tcp == nil {
		return false
	}
	raw, err := tcp.SyscallConn()
	return err == nil && o.apply(raw) == nil
}

// Control sets the options of a socket before it connects. It is for the fields Control of [net.Dialer] and of
// [net.ListenConfig], so that the attempts to connect are bounded as well.
func (o Options) Control(_, _ string, raw syscall.RawConn) error { return o.apply(raw) }

func (o Options) apply(raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) { o.ApplyFD(int(fd)) })
}

// Socket returns the TCP socket beneath a connection, nil if there is none. The wrappers may hold bytes of the socket,
// so that the caller must neither read nor write.
func Socket(conn net.Conn) *net.TCPConn {
	for range maxWrappers {
		switch c := conn.(type) {
		case nil:
			return nil
		case *net.TCPConn:
			return c
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			conn = embedded(c)
		}
	}
	return nil
}

// embedded returns the embedded net.Conn of a struct, or of a pointer to a struct; nil if there is none.
func embedded(conn net.Conn) net.Conn {
	v := reflect.ValueOf(conn)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	field, ok := v.Type().FieldByName("Conn")
	if !ok || !field.Anonymous || field.Type != reflect.TypeFor[net.Conn]() {
		return nil
	}
	beneath, _ := v.FieldByIndex(field.Index).Interface().(net.Conn)
	return beneath
}
