//go:build !linux || 386

package netpoll

import "errors"

// epoll exists on Linux only.
type epoll struct{}

func (epoll) remove(*Conn) {}

func (epoll) close() {}

func (c *Conn) watch() bool { return false }

func (c *Conn) tryRead([]byte) (int, bool, error) { return 0, false, errors.ErrUnsupported }
