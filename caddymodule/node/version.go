package node

import (
	"runtime/debug"
	"sync"
)

// Version returns the versions of the relay and of Go in this binary. Without build info, Relay is "unknown".
var Version = sync.OnceValue(func() (v struct{ Relay, Go string }) {
	v.Relay = "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Go = info.GoVersion
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == "github.com/edgerelay/edgerelay" {
			v.Relay = m.Version
		}
	}
	return v
})
