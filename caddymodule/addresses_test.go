package caddymodule

import (
	"strings"
	"testing"
)

func TestOriginsThatNoBrowserSendsAreRefused(t *testing.T) {
	for _, origin := range []string{
		"*", "https://awx.example.com", "http://localhost:8000", "*.example.net", "https://*.example.com:8443", "awx",
		"localhost:8000", "https://[::1]:8443", "https://10.0.0.1", "https://my_host", "HTTPS://a",
		"chrome-extension://abcdefghijklmnop", "capacitor://localhost", "app://.", "myapp://localhost",
		"vscode-webview://abc", "capacitor-electron://-", "wails://wails", "https://b\u00fccher.example",
	} {
		if err := checkOrigins([]string{origin}); err != nil {
			t.Errorf("%s is refused: %v", origin, err)
		}
	}
	for origin, want := range map[string]string{
		"htps://x.example.com":        `unknown scheme "htps"; did you mean https? Use http or https`,
		"ftp://x.example.com":         `browsers send no origin of the scheme "ftp"`,
		"file://x":                    "pages of files have no host to compare; use *",
		"FILE://":                     "pages of files have no host to compare; use *",
		"data://x":                    `browsers send no origin of the scheme "data"`,
		"myapp://localhost:":          "without a path",
		"capacitor://localhost:99999": "without a path",
		"wss://x.example.com":         "use http or https",
		"https://x.example.com:0":     "without a path",
		"https://x.example.com:99999": "without a path",
		"https://x.example.com:":      "without a path",
		"https://*":                   "without a path",
		"*.":                          "without a path",
		"https://exa*mple.com":        "without a path",
		"https://.example.com":        "without a path",
		"https://x..example.com":      "without a path",
		"https://10.0.0.300":          "without a path",
		"null":                        "or * for every page",
		"://x":                        "without a path",
		"":                            "without a path",
	} {
		if err := checkOrigins([]string{origin}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", origin, err, want)
		}
	}
}

// Values that can never work are refused, and do not wait for the first connection.
func TestValuesThatCannotWorkAreRefused(t *testing.T) {
	const secret = "auth none\nbackplane {\nsecret 0123456789abcdef\n"
	for lines, want := range map[string]string{
		"auth awx http://a:0":                                                         `auth awx: url: invalid port "0"`,
		"auth http https://a:99999/x":                                                 "auth http: url: invalid port",
		"auth jwt {\njwks https://a:99999/x\n}":                                       "auth jwt: jwks: invalid port",
		"auth awx http://a {\nsession_cookie \"a b\"\n}":                              "session_cookie: invalid name",
		"auth http http://a {\nheaders \"a b\"\n}":                                    "headers: invalid name",
		"auth http http://a {\nsession_cookie a=b\n}":                                 "session_cookie: invalid name",
		"auth jwt {\nkey {env.EDGERELAY_CORPUS}\nfrom cookie \"a b\"\n}":              "from cookie: invalid name",
		"auth jwt {\nkey {env.EDGERELAY_CORPUS}\nallow \"a b\"\n}":                    "no group has the name",
		"auth caddy {\nallow \"a b\"\n}":                                              "no group has the name",
		"auth caddy {\nexpires soon\n}":                                               "expires: \"soon\" has no placeholder",
		"auth caddy {\nexpires {http.auth.user.exp\n}":                                "has no placeholder",
		"auth none\nchannel_layer redis_cluster a:0":                                  "use 1 to 65535",
		"auth none\nchannel_layer redis_cluster a:redis":                              "use 1 to 65535",
		"auth none\nchannel_layer redis_cluster \"a b:1\"":                            "invalid host",
		"auth none\nchannel_layer redis {\nsentinel {\nmaster m\naddresses a:0\n}\n}": "sentinel: addresses: invalid port",
		"auth none\nchannel_layer redis {\nexpiry 0\n}":                               "at least 1s",
		secret + "peers http://a:99999\n}":                                            "invalid port",
		secret + "advertise http://a:0\npeers http://a\n}":                            "advertise: invalid port",
		secret + "dns \"a b\"\n}":                                                     "dns: invalid host",
		secret + "dns 10.0.0.0/8\n}":                                                  "dns: invalid host",
		secret + "dns 10.0.0.300\n}":                                                  "dns: invalid IP address",
		secret + "dns a {\nport 0\n}\n}":                                              "above 0",
		secret + "dns a {\nevery 0\n}\n}":                                             "above 0",
		secret + "node_name n\npostgres postgres://h/d {\nip 10.0.0.1:80\n}\n}":       "postgres: ip: invalid host",
		secret + "ping 0\npeers http://a\n}":                                          "above 0",
		secret + "queue_per_peer 0\npeers http://a\n}":                                "above 0",
		"auth none\nplugin a b {\nmemory 0\n}":                                        "above 0",
		"auth none\nplugin a b {\ntimeout 0\n}":                                       "above 0",
		"auth none\nplugin a b {\nfetch https://a {\nrate 0\n}\n}":                    "above 0",
	} {
		t.Setenv("EDGERELAY_CORPUS", corpusSecret)
		if err := validate(global(lines)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %q", lines, err, want)
		}
	}
	for lines, want := range map[string]string{
		"first fetch http://a:0/x":                        "invalid port",
		"messages backend http://a:99999":                 "messages backend: url: invalid port",
		"messages backend http://a {\nheaders \"a b\"\n}": "headers: invalid name",
		"hold http://a:99999":                             "hold: url: invalid port",
		"presence {\nwebhook http://a:99999/x\n}":         "webhook: url: invalid port",
	} {
		err := validate("{\nadmin off\nedgerelay {\nauth none\n}\n}\n:9 {\nedgerelay {\nroute /ws/ {\ngroups a\n" + lines +
			"\n}\n}\n}\n")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %q", lines, err, want)
		}
	}
}
