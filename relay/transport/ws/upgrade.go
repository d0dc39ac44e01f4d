package ws

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// IsUpgrade reports whether a request asks for a websocket.
func IsUpgrade(r *http.Request) bool { return hasToken(r.Header, "Upgrade", "websocket") }

// CheckUpgrade checks a request that asks for a websocket against RFC 6455 section 4.2.1. It returns 0 for a
// sound one, else the status code and the reason of the refusal, and sets the headers that belong to it.
func CheckUpgrade(w http.ResponseWriter, r *http.Request) (status int, reason string) {
	switch keys := r.Header.Values("Sec-Websocket-Key"); {
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		return http.StatusMethodNotAllowed, "a websocket handshake is a GET request"
	case !r.ProtoAtLeast(1, 1) || r.ProtoMajor > 1:
		return http.StatusUpgradeRequired, "a websocket handshake needs HTTP/1.1"
	case !hasToken(r.Header, "Connection", "upgrade"):
		return http.StatusBadRequest, "the Connection header of a websocket handshake must contain Upgrade"
	case r.Header.Get("Sec-Websocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		return http.StatusUpgradeRequired, "only websocket version 13 is spoken here"
	case r.ContentLength != 0: // its bytes would be taken for frames
		w.Header().Set("Connection", "close")
		return http.StatusBadRequest, "a websocket handshake has no body"
	case len(keys) != 1 || !validKey(keys[0]):
		return http.StatusBadRequest, "a websocket handshake needs one Sec-WebSocket-Key of 16 bytes in base64"
	}
	return 0, ""
}

func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(key))
	return err == nil && len(b) == 16
}

func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// Origins says which pages may connect besides those of the same host: origins such as "https://awx.example.com",
// with a leading "*." of the host for all its subdomains, or "*" for every page.
type Origins []string

// Allow reports whether the page that sends r may connect to a site that browsers reach by scheme, http or https, at
// one of hosts. An empty scheme is not compared: TLS may end in front of us. Requests without an Origin header do not
// come from a page.
func (o Origins) Allow(r *http.Request, scheme string, hosts ...string) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	for _, allowed := range o {
		if allowed == "*" {
			return true
		}
	}
	u, err := url.Parse(values[0])
	if err != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "https" && scheme != "http" || u.Scheme == "http" && scheme != "https" {
		for _, host := range hosts {
			if sameHost(u, host) {
				return true
			}
		}
	}
	for _, allowed := range o {
		if matchOrigin(allowed, u) {
			return true
		}
	}
	return false
}

// sameHost compares the origin's host with the request's, where either may leave out its default port.
func sameHost(origin *url.URL, host string) bool {
	if strings.EqualFold(origin.Host, host) {
		return true
	}
	port := map[string]string{"http": ":80", "https": ":443"}[origin.Scheme]
	return port != "" && strings.EqualFold(strings.TrimSuffix(origin.Host, port), strings.TrimSuffix(host, port))
}

func matchOrigin(allowed string, origin *url.URL) bool {
	scheme, host, ok := strings.Cut(allowed, "://")
	if !ok {
		scheme, host = origin.Scheme, allowed
	}
	if !strings.EqualFold(scheme, origin.Scheme) {
		return false
	}
	if sub, ok := strings.CutPrefix(host, "*."); ok {
		return len(origin.Host) > len(sub)+1 && strings.EqualFold(origin.Host[len(origin.Host)-len(sub)-1:], "."+sub)
	}
	return sameHost(origin, host)
}
