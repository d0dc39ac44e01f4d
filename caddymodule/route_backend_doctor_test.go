package caddymodule

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/guest"
)

// doctor asks the site of a current route, and tells of a request that has failed of late.
func TestDoctorOfBackends(t *testing.T) {
	b := startBackendSite(t)
	s := newSite(t)
	finding := func() guest.Finding {
		t.Helper()
		resp, err := http.Post("http://"+s.admin+"/edgerelay/doctor", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var d admin.Diagnosis
		if err := json.NewDecoder(resp.Body).Decode(&d); err != nil {
			t.Fatal(err)
		}
		var found []guest.Finding
		for _, f := range d.Findings {
			if f.Check == "backend" {
				found = append(found, f)
			}
		}
		if len(found) != 1 {
			t.Fatalf("findings %v", d.Findings)
		}
		return found[0]
	}
	want := func(level guest.Level, text string) {
		t.Helper()
		f := finding()
		t.Log(f.Text)
		if f.Level != level || !strings.Contains(f.Text, text) {
			t.Errorf("%v %q, want %v and %q", f.Level, f.Text, level, text)
		}
	}
	route := func(path, address string) string {
		return "edgerelay {\nroute " + path + " {\nmessages backend " + address + " {\nconcurrency 3\n}\n}\n}"
	}
	s.mustLoad("auth none", route("/ws/", b.URL))
	c := s.dialRoute("/ws/", nil)
	want(guest.OK, "route /ws/: the site answers with 200")
	want(guest.OK, "concurrency 3")
	b.Close()
	c.next("welcome")
	want(guest.Failure, "route /ws/: no answer")
	next := startBackendSite(t)
	s.mustLoad("auth none", route("/other/", next.URL))
	want(guest.OK, "route /other/")
	next.Close()
	if resp, _ := s.ask("/other/"); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("status %d without the site", resp.StatusCode)
	}
	s.mustLoad("auth none", route("/other/", startBackendSite(t).URL))
	want(guest.Warning, "route /other/: a request failed")
}
