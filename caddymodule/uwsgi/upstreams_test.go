package uwsgi

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func TestUpstreamsThatCannotBeASocketAreRefused(t *testing.T) {
	for _, upstreams := range []string{
		"127.0.0.1:8050", "[::1]:8050", ":8050", "localhost:8050 awx.example.com:8051", "127.0.0.1:8050-8052",
		"unix//run/awx/uwsgi.sock", "unix/@uwsgi", "unix/run/awx.sock", "tcp/127.0.0.1:8050", "{env.UWSGI}",
		"{\nto 127.0.0.1:8050\n}",
		"{\ndynamic srv {\nname awx.example.com\n}\n}", "/awx/* 127.0.0.1:8050 {\nlb_policy first\n}",
	} {
		if _, err := adapt(t, "edgerelay_uwsgi "+upstreams); err != nil {
			t.Errorf("%s is refused: %v", upstreams, err)
		}
	}
	for upstreams, want := range map[string]string{
		"":                           "no upstream; add the address",
		"/awx/*":                     "no upstream; add the address",
		"{\nlb_policy first\n}":      "no upstream; add the address",
		"127.0.0.1":                  `invalid upstream "127.0.0.1"; write host and port`,
		"foo":                        "write host and port",
		"foo:":                       "write host and port",
		"127.0.0.1:0":                "write host and port",
		"127.0.0.1:99999":            "write host and port",
		"[::1]":                      "write host and port",
		"::1":                        "write host and port",
		"udp/127.0.0.1:8050":         "write host and port",
		"127.0.0.1:8050 foo":         `invalid upstream "foo"`,
		"{\nto foo\n}":               `invalid upstream "foo"`,
		"unix/":                      "path of a socket",
		"unix//run/awx/":             "path of a socket",
		"uwsgi://127.0.0.1:8050":     "without a scheme: 127.0.0.1:8050",
		"http://127.0.0.1:8050/":     "without a scheme: 127.0.0.1:8050",
		"uwsgi+unix:///run/awx.sock": "write unix//run/awx.sock",
	} {
		_, err := adapt(t, "edgerelay_uwsgi "+upstreams)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ", at Caddyfile:") {
			t.Errorf("%s: %v, want %q and the line", upstreams, err, want)
		}
	}
}

func TestTransportWithoutUpstreamIsRefused(t *testing.T) {
	config, err := adapt(t, "reverse_proxy {\ntransport uwsgi\n}")
	if err != nil {
		t.Fatal(err)
	}
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&c); err == nil || !strings.Contains(err.Error(), "reverse_proxy has no upstream") {
		t.Errorf("%v, want the missing upstream", err)
	}
}

// A relative path is valid, and probably lacks a slash.
func TestRelativeSocketIsWarnedOf(t *testing.T) {
	t.Setenv("EDGERELAY_CORPUS_SOCKET", "run/awx.sock")
	for address, want := range map[string]string{
		"unix/run/awx.sock":                  "write unix//run/awx.sock",
		"unix/{env.EDGERELAY_CORPUS_SOCKET}": "write unix//run/awx.sock",
		"unix//run/awx.sock":                 "",
		"unix/@awx":                          "",
		"unix/{http.request.host}":           "",
		"127.0.0.1:8050":                     "",
	} {
		var log strings.Builder
		transport := &Transport{log: slog.New(slog.NewTextHandler(&log, nil))}
		handler := &reverseproxy.Handler{Upstreams: reverseproxy.UpstreamPool{{Dial: address}}}
		if err := transport.adaptHandler(handler); err != nil {
			t.Fatal(err)
		}
		if want == "" && log.Len() > 0 || want != "" && !strings.Contains(log.String(), `remedy="`+want) {
			t.Errorf("%s: %q, want %q", address, log.String(), want)
		}
	}
}
