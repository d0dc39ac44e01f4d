package doctor

// Connect reports whether WebSockets use HTTP/2. announced tells that the process announces extended CONNECT, and
// served that the relay serves it.
func Connect(announced, served bool) Finding {
	const check = "websockets over HTTP/2"
	switch {
	case announced && !served:
		return warn(check, "remove extended_connect off, or http2xconnect=1 from GODEBUG in the environment",
			"the process announces extended CONNECT and the relay rejects it, so browsers cannot connect")
	case announced:
		return ok(check, "on: browsers with an HTTP/2 connection to the site open WebSockets over it")
	}
	return ok(check, "off: browsers open WebSockets over HTTP/1.1; "+
		"GODEBUG=http2xconnect=1 in the environment of the process turns them on")
}
