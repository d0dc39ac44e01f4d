package authority

import "strings"

// CookieKey returns a key that is equal for Cookie headers of the same login, and whether there is a session cookie. A
// single session cookie is the key. If it is missing, all other cookies are; if it occurs twice, the whole header is.
// See docs/decisions/protocol-and-authz.md#why-does-an-empty-second-session-cookie-make-a-separate-login
func CookieKey(header, sessionCookie string) (key string, session bool) {
	var sessions, others []string
	empty := false // the session cookie has no value
	// Not r.Cookies: it skips cookies that Django reads, which could make two logins look the same.
	for pair := range strings.SplitSeq(header, ";") {
		pair = strings.TrimSpace(pair)
		name, value, _ := strings.Cut(pair, "=")
		switch name = strings.TrimSpace(name); {
		case name == "csrftoken" || name == "":
		case name == sessionCookie:
			sessions = append(sessions, pair)
			empty = strings.Trim(value, `" `) == ""
		default:
			others = append(others, pair)
		}
	}
	switch {
	case len(sessions) == 1 && !empty:
		return "session\x00" + sessions[0], true
	case len(sessions) > 1:
		return "cookies\x00" + header, true
	case len(sessions)+len(others) > 0:
		return "cookies\x00" + strings.Join(append(others, sessions...), "; "), false
	}
	return "", false
}
