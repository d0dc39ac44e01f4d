package jwt

import (
	"net/http"
	"strings"
)

// find returns the token of a handshake, and the subprotocol to answer if the token is in one. The first source that
// has a token counts, even if the token turns out to be invalid. Without a token, awaited reports whether one may come
// in the first message.
func (a *Authorizer) find(r *http.Request) (token, subprotocol string, awaited bool) {
	for _, s := range a.settings.Sources {
		switch s.Kind {
		case FromHeader:
			token = fromHeader(r, s.Name)
		case FromCookie:
			token = fromCookie(r, s.Name)
		case FromQuery:
			token = r.URL.Query().Get(s.Name)
		case FromSubprotocol:
			token, subprotocol = fromSubprotocol(r, s.Name)
		case FromMessage:
			awaited = true
		}
		if token != "" {
			return strings.Clone(token), strings.Clone(subprotocol), false
		}
	}
	return "", "", awaited
}

func fromHeader(r *http.Request, name string) string {
	value := strings.TrimSpace(r.Header.Get(name))
	if scheme, token, ok := strings.Cut(value, " "); ok {
		if strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token)
		}
		return "" // another scheme, such as Basic
	}
	if http.CanonicalHeaderKey(name) == "Authorization" {
		return "" // only a scheme
	}
	return value
}

// fromCookie returns the value of a cookie. Of several cookies the first counts: browsers send the one with the longest
// path first.
func fromCookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// fromSubprotocol returns the token among the requested subprotocols, and the subprotocol to answer.
func fromSubprotocol(r *http.Request, name string) (token, answer string) {
	var requested []string
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for element := range strings.SplitSeq(line, ",") {
			requested = append(requested, strings.TrimSpace(element))
		}
	}
	other := func(at int) string {
		for i, element := range requested {
			if i != at && element != "" {
				return element
			}
		}
		return requested[at]
	}
	for i, element := range requested {
		switch {
		case name == "":
			if looksLikeToken(element) {
				return element, other(i)
			}
		case strings.HasSuffix(name, "."):
			if token, ok := strings.CutPrefix(element, name); ok {
				return token, other(i)
			}
		case element == name && i+1 < len(requested):
			return requested[i+1], name
		}
	}
	return "", ""
}

// looksLikeToken reports whether a text has the form of a signed token: three parts, of which the first is an object in
// base64.
func looksLikeToken(s string) bool { return strings.HasPrefix(s, "ey") && strings.Count(s, ".") == 2 }
