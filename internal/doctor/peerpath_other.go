//go:build !linux

package doctor

import "net"

// readKernel returns nothing: TCP_INFO differs between systems.
func readKernel(net.Conn) kernelInfo { return kernelInfo{} }
