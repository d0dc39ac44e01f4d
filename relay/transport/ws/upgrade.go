package ws

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
)

// IsUpgrade reports whether a request asks for a WebSocket, over any version of HTTP.
func IsUpgrade(r *http.Request) bool {
	return hasToken(r.Header, "Upgrade", "websocket") || IsExtendedConnect(r)
}

// CheckUpgrade checks a request that asks for a WebSocket against RFC 6455 section 4.2.1, or RFC 8441 section 5. The
// status is 0 for a valid handshake. Otherwise CheckUpgrade sets the headers of the rejection and returns the status
// code and the reason.
func CheckUpgrade(w http.ResponseWriter, r *http.Request) (status int, reason string) {
	if IsExtendedConnect(r) {
		return checkExtendedConnect(w, r)
	}
	switch keys := r.Header.Values("Sec-Websocket-Key"); {
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		return http.StatusMethodNotAllowed, "a websocket handshake must be a GET request"
	case !r.ProtoAtLeast(1, 1) || r.ProtoMajor > 1:
		return http.StatusUpgradeRequired, "a websocket handshake needs HTTP/1.1"
	case !hasToken(r.Header, "Connection", "upgrade"):
		return http.StatusBadRequest, "the Connection header of a websocket handshake must contain Upgrade"
	case !slices.Equal(r.Header.Values("Sec-Websocket-Version"), version):
		w.Header().Set("Sec-WebSocket-Version", "13")
		return http.StatusUpgradeRequired, "only websocket version 13 is supported"
	case r.ContentLength != 0: // the body would be read as frames
		w.Header().Set("Connection", "close")
		return http.StatusBadRequest, "a websocket handshake must not have a body"
	case len(keys) != 1 || !validKey(keys[0]):
		return http.StatusBadRequest, "a websocket handshake needs one Sec-WebSocket-Key of 16 bytes in base64"
	}
	return 0, ""
}

// version is the header of the only version of RFC 6455.
var version = []string{"13"}

func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(key))
	return err == nil && len(b) == 16
}

// hasToken reports whether a header, which is a list, contains a token in any case.
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
