//go:build linux

package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"

	"github.com/coder/websocket"
)

// startNativeEcho starts the handler in Go as a process of its own.
func startNativeEcho() (addr string, procs []*process, err error) {
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	return startEchoProcess(addr, nil, exec.Command(self, "nativeecho", addr))
}

// serveNativeEcho echoes the messages of WebSockets.
func serveNativeEcho(addr string) error {
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		for {
			kind, message, err := c.Read(r.Context())
			if err == nil {
				err = c.Write(r.Context(), kind, message)
			}
			if err != nil {
				return
			}
		}
	}))
}

// listenLocal listens on a free port of this machine.
func listenLocal() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
