package outbound

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestParseOrigin(t *testing.T) {
	for text, want := range map[string]origin{
		"https://hooks.slack.com":        {"https", "hooks.slack.com", "443"},
		"https://Hooks.Slack.com/":       {"https", "hooks.slack.com", "443"},
		"http://localhost:8080":          {"http", "localhost", "8080"},
		"https://*.example.com:8443":     {"https", "*.example.com", "8443"},
		"https://*":                      {"https", "*", "443"},
		"http://*:8080":                  {"http", "*", "8080"},
		"https://[2001:DB8::1]:443":      {"https", "2001:db8::1", "443"},
		"https://10.0.0.1":               {"https", "10.0.0.1", "443"},
		"":                               {},
		"hooks.slack.com":                {},
		"ftp://example.com":              {},
		"HTTPS://example.com":            {},
		"https://":                       {},
		"https://a.example.com/path":     {},
		"https://a.example.com?q":        {},
		"https://a.example.com?":         {},
		"https://a.example.com#f":        {},
		"https://user@example.com":       {},
		"https://*.com":                  {},
		"https://*example.com":           {},
		"https://a.*.example.com":        {},
		"https://**":                     {},
		"https://a.example.com:":         {},
		"https://a.example.com:0":        {},
		"https://a.example.com:70000":    {},
		"https://a.example.com:0443":     {},
		"https://a.example.com.":         {},
		"https://2130706433":             {},
		"https://[fe80::1%25eth0]":       {},
		"https://b\u00fccher.example":    {},
		"https://a.example.com b":        {},
		"https://{env.HOST}.example.com": {},
	} {
		if got, err := parseOrigin(text); err == nil && got != want || (err != nil) != (want == origin{}) {
			t.Errorf("parseOrigin(%q) = %v, %v", text, got, err)
		}
	}
}

// Each URL tries to pass for hooks.example.com, or for a host below api.example.com.
func TestURLsThatPretend(t *testing.T) {
	c := client(t, Policy{Origins: []string{"https://hooks.example.com", "https://*.api.example.com", "http://plain.example.com:8080"}})
	for url, want := range map[string]Outcome{
		"https://hooks.example.com/x":                Responded,
		"https://HOOKS.example.com:443/x#f":          Responded,
		"https://eu.api.example.com/x?a=b@c":         Responded,
		"https://a.eu.api.example.com":               Responded,
		"http://plain.example.com:8080/":             Responded,
		"http://hooks.example.com/x":                 Denied,
		"https://hooks.example.com:8443/x":           Denied,
		"https://plain.example.com:8080/":            Denied,
		"https://api.example.com/x":                  Denied,
		"https://evilapi.example.com/x":              Denied,
		"https://eu.api.example.com.evil.net/x":      Denied,
		"https://hooks.example.com.evil.net/":        Denied,
		"https://evil.net/hooks.example.com":         Denied,
		"https://evil.net?https://hooks.example.com": Denied,
		"https://evil.net#@hooks.example.com":        Denied,
		"https://127.0.0.1/":                         Denied,
		"https://[::1]/":                             Denied,
		"https://[::ffff:127.0.0.1]/":                Denied,
		"https://hooks.example.com@evil.net/":        Invalid,
		"https://hooks.example.com:443@evil.net/":    Invalid,
		"https://@hooks.example.com/":                Invalid,
		"https://evil.net\\@hooks.example.com/":      Invalid,
		"https:\\\\hooks.example.com/":               Invalid,
		"https://hooks.example.com%2eevil.net/":      Invalid,
		"https://evil.net%00.api.example.com/":       Invalid,
		"https://evil.net%2f.api.example.com/":       Invalid,
		"https://hooks.example.com./":                Invalid,
		"https://.api.example.com/":                  Invalid,
		"https://a..api.example.com/":                Invalid,
		"https://hooks\u3002example\u3002com/":       Invalid,
		"https://\uff48ooks.example.com/":            Invalid,
		"https://hooks.example.com\t/":               Invalid,
		"https://hooks.example.com/\r\nX-A: b":       Invalid,
		"https://hooks.example.com/ HTTP/1.1":        Invalid,
		" https://hooks.example.com/":                Invalid,
		"https:hooks.example.com":                    Invalid,
		"https:/hooks.example.com":                   Invalid,
		"//hooks.example.com/":                       Invalid,
		"hooks.example.com":                          Invalid,
		"file:///etc/passwd":                         Invalid,
		"gopher://hooks.example.com/":                Invalid,
		"javascript:alert(1)":                        Invalid,
		"https://[fe80::1%25eth0]/":                  Invalid,
		"https://[fe80::1%eth0]/":                    Invalid,
		"https://[::1/":                              Invalid,
		"https://::1/":                               Invalid,
		"https://2130706433/":                        Invalid,
		"https://017700000001/":                      Invalid,
		"https://0x7f000001/":                        Invalid,
		"https://0x7f.1/":                            Invalid,
		"https://127.1/":                             Invalid,
		"https://127.0.0.01/":                        Invalid,
		"https://0177.0.0.1/":                        Invalid,
		"https://hooks.example.com:/":                Invalid,
		"https://hooks.example.com:0/":               Invalid,
		"https://hooks.example.com:65536/":           Invalid,
		"https://hooks.example.com:443:443/":         Invalid,
		"https://hooks.example.com:+443/":            Invalid,
		"":                                           Invalid,
	} {
		text, _ := json.Marshal(Request{URL: url})
		got, reason := Invalid, ""
		if req, err := Parse(text); err == nil {
			got, reason = c.current.Load().permits(req, "GET", 0)
		} else {
			reason = err.Error()
		}
		if got != want {
			t.Errorf("%q: outcome %d, %s; want %d", url, got, reason, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:                                    "not a JSON object",
		`[]`:                                  "not a JSON object",
		`null`:                                "the scheme",
		`{"url": "https://a.example.com"} {}`: "more than one",
		`{"url": "https://a.example.com", "methode": "GET"}`:                                 "not a JSON object",
		`{"url": "https://a.example.com", "method": "get"}`:                                  "upper case",
		`{"url": "https://a.example.com", "method": "GET / HTTP/1.1\r\n"}`:                   "upper case",
		`{"url": "https://a.example.com", "timeout_ms": -1}`:                                 "timeout_ms",
		`{"url": "https://a.example.com", "timeout_ms": 1e12}`:                               "timeout_ms",
		`{"url": "https://a.example.com", "response_headers": ["a b"]}`:                      "response_headers",
		`{"url": "https://a.example.com", "once": "` + strings.Repeat("x", maxOnce+1) + `"}`: "once",
		`{"url": "https://a.example.com/` + strings.Repeat("x", maxURL) + `"}`:               "bytes",
		strings.Repeat(" ", maxRequestText+1):                                                "bytes",
		"{\"url\": \"https://a.example.com/\xff\"}":                                          "UTF-8",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.60q): %v, want %q", text, err, want)
		}
	}
}

func TestHeaders(t *testing.T) {
	granted, err := grantedHeaders([]string{"x-api-key", "X-GitHub-Event"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Outcome{
		"Content-Type": Responded, "authorization": Responded, "X-API-KEY": Responded, "x-github-event": Responded,
		"X-Other": Denied, "Host": Denied, "Cookie": Denied, "Connection": Denied, "Transfer-Encoding": Denied,
		"Content-Length": Denied, "Proxy-Authorization": Denied, "Upgrade": Denied, "Expect": Denied, "TE": Denied,
		"X-Forwarded-For": Denied, "Accept-Encoding": Denied, "Trailer": Denied,
		"": Invalid, "A B": Invalid, "A:": Invalid, "Accept\r\nHost": Invalid, "Accept\u00e9": Invalid, ":authority": Invalid,
	} {
		if _, got, reason := checkHeaders(map[string]string{name: "v"}, granted); got != want {
			t.Errorf("header %q: outcome %d, %s; want %d", name, got, reason, want)
		}
	}
	for _, value := range []string{"a\r\nHost: evil.net", "a\nb", "a\rb", "a\x00b", "a\x7fb", "\x1b[2J", strings.Repeat("x", maxHeaderBytes)} {
		if _, got, _ := checkHeaders(map[string]string{"Accept": value}, granted); got != Invalid {
			t.Errorf("value %.20q is allowed", value)
		}
	}
	if _, got, _ := checkHeaders(map[string]string{"Accept": "a", "accept": "b"}, granted); got != Invalid {
		t.Error("a header occurs twice")
	}
	many := map[string]string{}
	for i := range maxHeaders + 1 {
		many["Accept"+strings.Repeat("-a", i)] = "x"
	}
	if _, got, _ := checkHeaders(many, granted); got != Invalid {
		t.Error("there is no bound on the number of headers")
	}
	for _, name := range append([]string{"*", "a b", "X-Forwarded-Host", "proxy-authorization"}, forbiddenHeaders...) {
		if _, err := grantedHeaders([]string{name}); err == nil {
			t.Errorf("%q can be granted", name)
		}
	}
	for _, name := range forbiddenHeaders {
		if http.CanonicalHeaderKey(name) != name {
			t.Errorf("%q is not in its canonical form", name)
		}
	}
}

// What is parsed is the host that the standard library connects to, and no other parse of the URL has another.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"https://hooks.example.com/x", "https://a@b", "https://[::1]:443/", "http://0x7f.1/", "https://a%2eb/",
		"https://hooks.example.com\\@evil.net", "https://h.example.com:0443#x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		request, _ := json.Marshal(Request{URL: text})
		r, err := Parse(request)
		if err != nil {
			return
		}
		again, err := url.Parse(r.url.String())
		if err != nil {
			t.Fatalf("%q becomes %q: %v", text, r.url, err)
		}
		o, err := originOf(again)
		if err != nil || o != r.origin {
			t.Fatalf("%q has the origin %v, and then %v, %v", text, r.origin, o, err)
		}
		if i := strings.Index(text, "://"); i < 0 || !strings.HasPrefix(strings.ToLower(text[i+3:]), o.host) &&
			!strings.HasPrefix(text[i+3:], "[") {
			t.Fatalf("%q has the host %q, which does not follow the scheme", text, o.host)
		}
	})
}
