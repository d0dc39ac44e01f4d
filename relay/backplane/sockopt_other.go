//go:build !linux

package backplane

import "net"

// wakeSoon: where the kernel cannot be told, a link that moves less than a third of its buffer within the silence is given up.
func wakeSoon(net.Conn) {}
