package uwsgi

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

func adapt(t *testing.T, site string) (string, error) {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(":80 {\n"+site+"\n}"), nil)
	return string(config), err
}

// The directive is reverse_proxy with the transport, also with a matcher, several upstreams and settings.
func TestDirective(t *testing.T) {
	for short, long := range map[string]string{
		"edgerelay_uwsgi 127.0.0.1:8050": "reverse_proxy 127.0.0.1:8050 {\ntransport uwsgi\n}",
		"edgerelay_uwsgi /awx/* unix//run/a.sock unix//run/b.sock {\nlb_policy first\nheader_up X-A b\n}": "" +
			"reverse_proxy /awx/* unix//run/a.sock unix//run/b.sock {\n" +
			"lb_policy first\nheader_up X-A b\ntransport uwsgi\n}",
	} {
		want, err := adapt(t, long)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := adapt(t, short); got != want || err != nil {
			t.Errorf("%s:\ngot  %s (%v)\nwant %s", short, got, err, want)
		}
	}
	_, err := adapt(t, "edgerelay_uwsgi 127.0.0.1:8050 {\ntransport uwsgi\n}")
	if err == nil || !strings.Contains(err.Error(), "transport already specified") {
		t.Errorf("a second transport: %v", err)
	}
}
