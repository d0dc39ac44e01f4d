package ws

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const permessageDeflate = "permessage-deflate"

// negotiate returns the window of a client by the offers of its handshake, and the header that answers them. The first
// offer that the server can accept counts, since a client lists its offers in order of preference. Offers that are
// invalid or unknown are declined, and so are all offers of a malformed header. The window is 0 and the answer empty if
// nothing is agreed.
//
// The server takes messages without context takeover only, so each agreement has client_no_context_takeover.
func negotiate(h http.Header) (w relay.Window, answer string) {
	lines := h["Sec-Websocket-Extensions"]
	if len(lines) == 0 || inflatesWrongly(h.Get("User-Agent")) {
		return 0, ""
	}
	var accepted offer
	for _, line := range lines {
		r := extensionReader{rest: line}
		for name, ok := r.next(); ok; name, ok = r.next() {
			if o := readOffer(&r, name); !accepted.valid {
				accepted = o
			}
		}
		if r.failed {
			return 0, ""
		}
	}
	if !accepted.valid {
		return 0, ""
	}
	return accepted.accept()
}

// offer is an offer of an extension.
type offer struct {
	valid      bool // permessage-deflate with valid parameters
	noTakeover bool
	bits       uint8 // server_max_window_bits; 0: absent
}

// readOffer reads the rest of an offer of the extension name.
func readOffer(r *extensionReader, name string) offer {
	o := offer{valid: name == permessageDeflate}
	var seen [4]string // more names are not valid
	n := 0
	for p, ok := r.parameter(); ok; p, ok = r.parameter() {
		o.valid = o.valid && o.take(p) && !slices.Contains(seen[:n], p.name)
		if o.valid {
			seen[n] = p.name
			n++
		}
	}
	o.valid = o.valid && !r.failed
	return o
}

// take takes a parameter into the offer, and reports whether it is valid (RFC 7692 section 7.1).
func (o *offer) take(p parameter) (valid bool) {
	switch p.name {
	case "server_no_context_takeover":
		o.noTakeover = true
		return !p.hasValue
	case "client_no_context_takeover": // the answer has it in any case
		return !p.hasValue
	case "server_max_window_bits":
		o.bits, valid = parseWindowBits(p.value)
		return valid
	case "client_max_window_bits": // a hint; the inflater has the greatest window
		_, valid = parseWindowBits(p.value)
		return valid || !p.hasValue
	}
	return false
}

// parseWindowBits parses a decimal number from 8 to 15 without leading zeros.
func parseWindowBits(s string) (bits uint8, ok bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err == nil && relay.MinWindowBits <= n && n <= relay.MaxWindowBits && s[0] != '0'
}

// accept returns the window of a client whose offer is accepted, and the answer.
func (o offer) accept() (w relay.Window, answer string) {
	answer = permessageDeflate + "; client_no_context_takeover"
	if o.noTakeover {
		answer += "; server_no_context_takeover"
	}
	bits := relay.MaxWindowBits
	if o.bits != 0 {
		bits = int(o.bits)
		answer += "; server_max_window_bits=" + strconv.Itoa(bits)
	}
	return relay.NewWindow(bits, !o.noTakeover), answer
}

// inflatesWrongly reports whether a client offers permessage-deflate and then fails with it: the network library of
// macOS and iOS does, which Safari and every browser on iOS use.
// See docs/decisions/transport.md#why-do-safari-and-ios-get-plain-messages
func inflatesWrongly(userAgent string) bool {
	if strings.Contains(userAgent, "CFNetwork/") {
		return true
	}
	return strings.Contains(userAgent, "AppleWebKit/") && !strings.Contains(userAgent, "Chrome/") &&
		!strings.Contains(userAgent, "Chromium/")
}

// WillDeflate reports whether [Accept] will agree on compression with the client of a request, if the options have
// Deflate.
func WillDeflate(r *http.Request) bool {
	w, _ := negotiate(r.Header)
	return w.Deflates()
}

// negotiate agrees on compression with the client, before the response is written. The agreement depends on the headers
// only, so it holds for every version of HTTP.
func (c *Conn) negotiate(w http.ResponseWriter, r *http.Request) {
	var answer string
	if c.window, answer = negotiate(r.Header); answer != "" {
		c.deflates = true
		w.Header().Set("Sec-WebSocket-Extensions", answer)
	}
}

// Deflates implements [relay.Deflater].
func (c *Conn) Deflates() bool { return c.deflates }

// Choose implements [relay.Deflater].
func (c *Conn) Choose(z *relay.Compressed) relay.Form { return c.window.Choose(z) }

// DropEvents implements [relay.Dropper].
func (c *Conn) DropEvents(limit int, period time.Duration) (relay.Dropped, bool) {
	c.window.Forget()
	return c.Conn.DropEvents(limit, period)
}
