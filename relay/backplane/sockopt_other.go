//go:build !linux

package backplane

import "net"

// wakeSoon does nothing: without TCP_NOTSENT_LOWAT, a link that moves less than a third of its buffer within the
// silence times out.
func wakeSoon(net.Conn) {}
