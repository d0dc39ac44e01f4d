package outbound

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

const (
	maxHeaders     = 64       // in a request
	maxHeaderBytes = 16 << 10 // of a request, names and values
)

// defaultHeaders are the headers that requests may have without a grant.
var defaultHeaders = []string{
	"Accept", "Accept-Language", "Authorization", "Content-Language", "Content-Type", "Idempotency-Key", "If-Match",
	"If-Modified-Since", "If-None-Match", "If-Unmodified-Since", "Range", "User-Agent",
}

// forbiddenHeaders are those that decide where a request goes or where it ends, and those that speak for a user or a
// proxy. They cannot be granted.
var forbiddenHeaders = []string{
	"Accept-Encoding", "Connection", "Content-Length", "Cookie", "Cookie2", "Expect", "Forwarded", "Host", "Http2-Settings",
	"Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Via",
}

// forbiddenPrefixes are prefixes of headers that cannot be granted.
var forbiddenPrefixes = []string{"Proxy-", "X-Forwarded-"}

func forbiddenHeader(name string) bool {
	return slices.Contains(forbiddenHeaders, name) ||
		slices.ContainsFunc(forbiddenPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// isToken reports whether a text is a token of HTTP, such as a method or a header's name.
func isToken(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			r < 128 && strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}

// grantedHeaders checks and normalizes the names of headers that a policy grants.
func grantedHeaders(names []string) (granted []string, err error) {
	granted = slices.Clone(defaultHeaders)
	for _, name := range names {
		own := http.CanonicalHeaderKey(name)
		switch {
		case !isToken(name) || strings.Contains(name, "*"):
			return nil, fmt.Errorf("invalid header %q; use a name such as X-Api-Key", name)
		case forbiddenHeader(own):
			return nil, fmt.Errorf("header %s cannot be granted; remove it", own)
		}
		granted = append(granted, own)
	}
	return granted, nil
}

// checkHeaders returns the headers of a request, or why they are not allowed.
func checkHeaders(headers map[string]string, granted []string) (http.Header, Outcome, string) {
	out, size := make(http.Header, len(headers)+1), 0
	if len(headers) > maxHeaders {
		return nil, Invalid, fmt.Sprintf("more than %d headers", maxHeaders)
	}
	for name, value := range headers {
		own := http.CanonicalHeaderKey(name)
		switch size += len(name) + len(value); {
		case !isToken(name):
			return nil, Invalid, "the name of a header has invalid characters"
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return nil, Invalid, "header " + own + " has control characters"
		case size > maxHeaderBytes:
			return nil, Invalid, fmt.Sprintf("the headers have more than %d bytes", maxHeaderBytes)
		case !slices.Contains(granted, own):
			return nil, Denied, "header " + own + " is not granted"
		case out[own] != nil:
			return nil, Invalid, "header " + own + " occurs twice"
		}
		out[own] = []string{value}
	}
	if out["User-Agent"] == nil {
		out["User-Agent"] = []string{"edgerelay"}
	}
	return out, Responded, ""
}
