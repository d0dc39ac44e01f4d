package wire

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenTAP makes a TAP device in the namespace. Each Read returns a frame that the kernel sends through the device, each
// Write gives the kernel a frame. Close removes the device.
func (n *Namespace) OpenTAP(device string) (tap *os.File, err error) {
	err = n.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		request, err := unix.NewIfreq(device)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			_ = unix.Close(fd) // the error before is the cause
			return fmt.Errorf("make TAP device %s: %w", device, err)
		}
		// Go's poller takes the file only after the device exists.
		if err := unix.SetNonblock(fd, true); err != nil {
			_ = unix.Close(fd) // the error before is the cause
			return err
		}
		tap = os.NewFile(uintptr(fd), device)
		return nil
	})
	return tap, err
}

// Device is the name of the network device of a namespace that [Namespace.Join] has made.
const Device = "eth0"

// Join attaches a namespace to the switch under a port name, with addresses such as 10.0.0.1/24.
func (n *Namespace) Join(s *Switch, port string, addresses ...string) error {
	tap, err := n.OpenTAP(Device)
	if err != nil {
		return err
	}
	var lines []string
	for _, a := range addresses {
		lines = append(lines, fmt.Sprintf("addr add %s dev %s nodad", a, Device))
	}
	lines = append(lines, "link set "+Device+" up")
	if err := n.IP(lines...); err != nil {
		_ = tap.Close() // the error before is the cause
		return err
	}
	return s.Attach(port, tap)
}
