package caddymodule

import "testing"

// Caddy's encode compresses the answers of long polls where it stands in front of the relay, but not those with groups
// that the relay itself does not compress.
func TestEncodeOfLongPolls(t *testing.T) {
	const site = `route {
	encode gzip {
		minimum_length 1
	}
	edgerelay {
		path /websocket/
		route /ws/{room}/ {
			groups r_{room}
			on x.text text text
		}
	}
	respond "next"
}`
	const body = `{"groups": {"a": ["b"], "inventory_update_events": [1]}, "xrftoken": "t"}`
	cookie := []string{"Content-Type: application/json", "Cookie: csrftoken=t"}
	s := newSite(t)
	for name, c := range map[string]struct {
		lines, path, body string
		compressed        bool
	}{
		"by default":        {"", "/websocket/?group=a-b&wait=0", "", true},
		"an excluded group": {"", "/websocket/?group=a-b&group=ad_hoc_command_events-1&wait=0", "", false},
		"in a body":         {"", "/websocket/?wait=0", body, false},
		"a route":           {"", "/ws/a/?wait=0", "", true},
		"an excluded route": {"compression {\nexclude r_*\n}", "/ws/a/?wait=0", "", false},
		"off":               {"compression off", "/websocket/?group=a-b&wait=0", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			s.mustLoad("auth none\n"+c.lines, site)
			method, header := "GET", []string(nil)
			if c.body != "" {
				method, header = "POST", cookie
			}
			resp, text := s.request(method, c.path, c.body, header...)
			if resp.StatusCode != 200 || resp.Uncompressed != c.compressed {
				t.Errorf("%d %q: compressed is %v, want %v", resp.StatusCode, text, resp.Uncompressed, c.compressed)
			}
		})
	}
}
