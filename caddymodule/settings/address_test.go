package settings

import (
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		check func(string) error
		text  string
		want  string // "": accepted
	}{
		{CheckURLPort, "http://a", ""},
		{CheckURLPort, "http://a:", ""},
		{CheckURLPort, "http://:80/x", ""},
		{CheckURLPort, "redis://u:p@[::1]:6379/0", ""},
		{CheckURLPort, "unix:///run/redis.sock", ""},
		{CheckURLPort, "http://a:0", `invalid port "0"`},
		{CheckURLPort, "http://a:65536/", "use 1 to 65535"},
		{CheckHostPort, "a:1", ""},
		{CheckHostPort, "redis-1.example.com:6379", ""},
		{CheckHostPort, "[::1]:6379", ""},
		{CheckHostPort, "my_redis:6379", ""},
		{CheckHostPort, "bücher.example:1", ""},
		{CheckHostPort, "a", "use host:port"},
		{CheckHostPort, ":1", "use host:port"},
		{CheckHostPort, "a:0", "use 1 to 65535"},
		{CheckHostPort, "a:x", "use 1 to 65535"},
		{CheckHostPort, "a b:1", "invalid host"},
		{CheckHostPort, "a/b:1", "invalid host"},
		{CheckHostPort, "10.0.0.300:1", "invalid IP address"},
		{CheckHost, "example.com.", ""},
		{CheckHost, "_ws._tcp.example.com", ""},
		{CheckHost, "..", "invalid host"},
		{CheckHost, "", "invalid host"},
		{CheckHost, "10.0.0.0/8", "invalid host"},
		{CheckHost, "10.0.0.1:80", "invalid host"},
	} {
		err := c.check(c.text)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}
