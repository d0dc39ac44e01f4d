package node

import (
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// connectWait bounds the question of AnnouncesConnect, which is answered within the process.
const connectWait = 5 * time.Second

// AnnouncesConnect reports whether HTTP/2 servers of this process announce extended CONNECT, with which browsers open
// WebSockets over HTTP/2. It asks the server that Caddy uses: the environment variable GODEBUG decides only for some Go
// releases, and a copy of the rules of Go would become outdated.
// See docs/decisions/connect.md#why-does-the-environment-switch-websockets-over-http2-on
var AnnouncesConnect = sync.OnceValue(func() bool {
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	//lint:ignore SA1019 this is the server of Caddy
	go (&http2.Server{}).ServeConn(server, &http2.ServeConnOpts{})
	_ = client.SetDeadline(time.Now().Add(connectWait))
	framer := http2.NewFramer(client, client)
	go func() { // the server may write first, and a pipe has no buffer
		if _, err := client.Write([]byte(http2.ClientPreface)); err == nil {
			_ = framer.WriteSettings()
		}
	}()
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return false
		}
		if settings, ok := f.(*http2.SettingsFrame); ok {
			v, _ := settings.Value(http2.SettingEnableConnectProtocol)
			return v == 1
		}
	}
})

// logConnect logs whether WebSockets use HTTP/2, when that is new.
func (n *Node) logConnect(served bool) {
	announced := AnnouncesConnect()
	state := connectOff
	switch {
	case announced && served:
		state = connectOn
	case announced:
		state = connectBroken
	}
	if n.connectState.Swap(uint32(state)) == uint32(state) {
		return
	}
	switch state {
	case connectOff:
		n.Log.Info("websockets over HTTP/2 are off; browsers use HTTP/1.1")
	case connectOn:
		n.Log.Info("websockets over HTTP/2 are on")
	case connectBroken:
		n.Log.Warn("websockets over HTTP/2 are announced but rejected; browsers cannot connect", "remedy",
			"remove extended_connect off, or http2xconnect=1 from GODEBUG in the environment, which is the whole process's")
	}
}

// The states of WebSockets over HTTP/2. The zero value is unknown.
const (
	connectOff = iota + 1
	connectOn
	connectBroken
)
