package doctor

import "github.com/edgerelay/edgerelay/relay/hub"

// enoughClients is the number of clients among which one, at least, is expected to offer compression: all browsers do.
const enoughClients = 20

// Compression reports whether clients agree on compression, and what it saves. sockets is the number of open
// WebSockets: events of other doors are not compressed.
func Compression(enabled bool, sockets int, s hub.CompressionStats) Finding {
	const check = "compression"
	var before, after uint64
	for _, form := range s.Forms {
		before, after = before+form.Before, after+form.After
	}
	switch {
	case !enabled:
		return ok(check, "off; browsers could get events of 2 KB in about a ninth of the bytes")
	case s.Sessions == 0 && sockets >= enoughClients:
		return warn(check, "let the proxy in front pass the header Sec-WebSocket-Extensions, or write 'compression off'",
			"none of %d WebSockets has agreed on compression, which all browsers offer", sockets)
	case before == 0:
		return ok(check, "%d of %d WebSockets have agreed; no event has been compressed yet", s.Sessions, sockets)
	}
	return ok(check, "%d of %d WebSockets have agreed; compressed events took %.0f %% of their bytes", s.Sessions, sockets,
		100*float64(after)/float64(before))
}
