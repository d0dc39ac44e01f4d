// Package xconnect lets the HTTP/2 servers of a test's process announce extended CONNECT, as a process with
// GODEBUG=http2xconnect=1 in its environment does. Import it for its side effect.
//
// Both copies of the HTTP/2 server, in net/http and in golang.org/x/net/http2, read the variable when they are
// initialized. Go initializes packages without further imports in the order of their paths, so that this package, which
// imports package os alone, comes before both.
package xconnect

import "os"

func init() {
	value := "http2xconnect=1"
	if others := os.Getenv("GODEBUG"); others != "" {
		value = others + "," + value
	}
	_ = os.Setenv("GODEBUG", value) // fails for invalid names only
}
