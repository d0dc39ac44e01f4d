package discovery

import (
	"net/url"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay/backplane"
)

// FuzzHeartbeat feeds payloads of PostgreSQL's notifications: an accepted payload names a host, on the cluster's
// scheme and port.
func FuzzHeartbeat(f *testing.F) {
	for _, payload := range []string{
		`{"hostname": "awx-web-1", "ip": "10.0.0.7", "action": "online"}`, `{"hostname": "awx-web-1", "ip": null, "action": "online"}`, `{"hostname": "x@y", "action": "online"}`, `{"hostname": "fd00::7", "action": "online"}`,
		`{"hostname": "a", "ip": "b/../c?d#e", "action": "online"}`, `{"hostname": "a:1", "action": "online"}`, `{"hostname": "a", "ip": "[::1%25eth0]", "action": "online"}`, `{"hostname": "\u0000", "action": "online"}`, `[]`, ``,
	} {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		p := &Postgres{Hostname: "self", Scheme: "http", Port: 8013}
		nodes := map[string]webNode{"known": {address: "10.0.0.1"}}
		p.handleHeartbeat(nodes, payload)
		if len(nodes) > 2 {
			t.Errorf("%q added %d nodes", payload, len(nodes)-1)
		}
		for _, target := range p.targets(nodes) {
			u, err := url.Parse(target.URL)
			if err != nil || u.Scheme != "http" || u.Port() != "8013" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
				t.Errorf("%q led to %q: %v", payload, target.URL, err)
			}
		}
	})
}

// FuzzRegistry feeds arbitrary entries of the registry in Redis.
func FuzzRegistry(f *testing.F) {
	for _, node := range []string{"http://10.0.0.2:8013", "https://x/prefix/", "ftp://x", "http://user:pw@x", "", "http://", "http://x?y", "\x00", "http://self/"} {
		f.Add(node)
	}
	f.Fuzz(func(t *testing.T, node string) {
		r := &Redis{Advertise: "http://self"}
		for _, target := range r.targets([]string{node}) {
			u, err := backplane.ParseURL(target.URL)
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				t.Errorf("%q is taken: %v", node, err)
			}
		}
	})
}
