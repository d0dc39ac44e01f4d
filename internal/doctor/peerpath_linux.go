package doctor

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/edgerelay/edgerelay/internal/tcptuning"
)

// readKernel reads TCP_INFO of a connection.
func readKernel(conn net.Conn) (k kernelInfo) {
	socket := tcptuning.Socket(conn)
	if socket == nil {
		return k
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return k
	}
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			k = kernelInfo{int(info.Data_segs_out), int(info.Total_retrans), int(info.Pmtu), int(info.Snd_mss)}
		}
	})
	return k
}
