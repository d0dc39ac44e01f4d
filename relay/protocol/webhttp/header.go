package webhttp

import (
	"net/http"
	"strings"
	"unique"
)

// maxHandshake is the greatest length of the handshake's headers that a connection keeps, in bytes.
const maxHandshake = 32 << 10

// hopHeaders are headers that the relay does not pass to the backend: they belong to the client's own connection or
// request, or the relay writes its own.
var hopHeaders = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Connection": true, "Content-Encoding": true, "Content-Length": true,
	"Content-Type": true, "Expect": true, "Forwarded": true, "Host": true, "Keep-Alive": true, "Proxy-Authorization": true,
	"Proxy-Connection": true, "Sec-Websocket-Accept": true, "Sec-Websocket-Extensions": true, "Sec-Websocket-Key": true,
	"Sec-Websocket-Version": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Proto": true,
	// With one of these, net/http repeats a POST whose connection ends.
	"Idempotency-Key": true, "X-Idempotency-Key": true,
}

// ownHeaders are headers that differ between clients. All others are stored once for all clients that send the same.
var ownHeaders = map[string]bool{"Authorization": true, "Cookie": true}

// Reserved reports whether a header belongs to GRIP or to WebSocket-over-HTTP, so that no client may send it to a
// backend. A header with "_" counts like one with "-": WSGI makes the same variable of both.
func Reserved(name string) bool {
	name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	return name == "Connection-Id" || name == "Keep-Alive-Interval" || strings.HasPrefix(name, "Grip-") ||
		strings.HasPrefix(name, "Meta-") || strings.HasPrefix(name, "Set-Meta-") ||
		strings.HasPrefix(name, "Content-Bytes-")
}

// StripReserved removes the headers that no client may send to a backend; see [Reserved].
func StripReserved(h http.Header) {
	for name := range h {
		if Reserved(name) {
			delete(h, name)
		}
	}
}

// StripGrip removes the headers Grip-…, with which a client could pretend to be a proxy.
func StripGrip(h http.Header) {
	for name := range h {
		if strings.HasPrefix(http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")), "Grip-") {
			delete(h, name)
		}
	}
}

// IsEvents reports whether a Content-Type is that of a list of events. No client may send one to a backend.
func IsEvents(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(kind), ContentType)
}

// ReadAsEvents reports whether a backend could take a client's Content-Type for that of a list of events. Frameworks
// trim more than spaces: for Python, the byte 0xA0 in a header is a space.
func ReadAsEvents(contentType string) bool {
	return strings.Contains(strings.ToLower(contentType), ContentType)
}

// handshake is the part of a handshake that each request to the backend repeats, in a compact form: "Name: value" lines
// that end with a line feed.
type handshake struct {
	// shared are the headers that most clients send alike.
	shared unique.Handle[string]
	// own are the headers of this client, and uri its path and query.
	own, uri string
	// host is the header Host.
	host unique.Handle[string]
}

// keep returns the compact form of a handshake from a client at an address. only, unless empty, are the canonical names
// of the headers to keep. ok is false if they are too long.
func keep(r *http.Request, address, scheme string, only map[string]bool) (k handshake, ok bool) {
	var shared, own strings.Builder
	size := 0
	for _, name := range sortedNames(r.Header) {
		if hopHeaders[name] || Reserved(name) || strings.Contains(name, "_") || len(only) > 0 && !only[name] ||
			strings.HasPrefix(name, ":") { // :protocol, which Go's HTTP/2 server keeps among the headers
			continue
		}
		to := &shared
		if ownHeaders[name] {
			to = &own
		}
		for _, value := range r.Header[name] {
			size += len(name) + len(value)
			if size > maxHandshake {
				return k, false
			}
			appendLine(to, name, value)
		}
	}
	if address != "" {
		appendLine(&own, "X-Forwarded-For", address)
	}
	appendLine(&shared, "X-Forwarded-Host", r.Host)
	appendLine(&shared, "X-Forwarded-Proto", scheme)
	return handshake{
		shared: unique.Make(shared.String()), own: strings.Clone(own.String()), // without spare room
		uri:  strings.Clone(r.URL.RequestURI()),
		host: unique.Make(r.Host),
	}, true
}

// keepPlace returns what a request without any header of the client needs.
func keepPlace(r *http.Request, scheme string) handshake {
	var shared strings.Builder
	appendLine(&shared, "X-Forwarded-Host", r.Host)
	appendLine(&shared, "X-Forwarded-Proto", scheme)
	return handshake{
		shared: unique.Make(shared.String()), uri: strings.Clone(r.URL.RequestURI()), host: unique.Make(r.Host),
	}
}

func appendLine(b *strings.Builder, name, value string) {
	b.WriteString(name)
	b.WriteString(": ")
	b.WriteString(oneLine.Replace(value))
	b.WriteByte('\n')
}

var oneLine = strings.NewReplacer("\n", " ", "\r", " ")

// header returns the headers.
func (k *handshake) header() http.Header {
	h := make(http.Header, 16)
	for _, lines := range []string{k.shared.Value(), k.own} {
		for lines != "" {
			var line string
			line, lines, _ = strings.Cut(lines, "\n")
			if name, value, ok := strings.Cut(line, ": "); ok {
				h[name] = append(h[name], value)
			}
		}
	}
	return h
}

// passed returns the headers of the backend's answer to OPEN that the client gets.
func passed(h http.Header) http.Header {
	out := http.Header{}
	for name, values := range h {
		switch {
		case Reserved(name), strings.HasPrefix(name, "Sec-Websocket-"):
		case name == "Set-Cookie", name == "Www-Authenticate", name == "Location", !hopHeaders[name]:
			out[name] = values
		}
	}
	out.Del("Date")
	out.Del("Server")
	return out
}

// messagePrefix returns the prefix of ordinary messages that the extension grip in a header agrees on. ok is false
// without the extension.
func messagePrefix(h http.Header) (prefix string, ok bool) {
	for _, line := range h.Values("Sec-WebSocket-Extensions") {
		for extension := range strings.SplitSeq(line, ",") {
			name, parameters, _ := strings.Cut(extension, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "grip") {
				continue
			}
			for parameter := range strings.SplitSeq(parameters, ";") {
				key, value, _ := strings.Cut(parameter, "=")
				if strings.EqualFold(strings.TrimSpace(key), "message-prefix") {
					// A part of the header, even an empty one, would keep all of it in memory.
					return strings.Clone(strings.Trim(strings.TrimSpace(value), `"`)), true
				}
			}
			return "m:", true
		}
	}
	return "", false
}
