package caddymodule

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

// A client of the admin API whose paths can be limited cannot try secrets, and no client can try many of them.
func TestSecretsCannotBeGuessed(t *testing.T) {
	newSite(t).mustLoad("auth none", "edgerelay")
	search := func(remote bool) int {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/edgerelay/secrets/find",
			strings.NewReader(`{"secrets": ["{env.PATH}"], "texts": ["/usr/bin:/bin"]}`))
		if remote {
			r.TLS = new(tls.ConnectionState) // only Caddy's remote administration has TLS
		}
		for _, route := range (admin.Admin{}).Routes() {
			if route.Pattern != r.URL.Path {
				continue
			}
			failed := new(caddy.APIError)
			if errors.As(route.Handler.ServeHTTP(httptest.NewRecorder(), r), failed) {
				return failed.HTTPStatus
			}
			return http.StatusOK
		}
		t.Fatal("there is no such path")
		return 0
	}
	if got := search(true); got != http.StatusForbidden {
		t.Errorf("remote administration: %d", got)
	}
	for i := range 7 {
		want := http.StatusOK
		if i == 6 {
			want = http.StatusTooManyRequests
		}
		if got := search(false); got != want {
			t.Errorf("search %d: %d, want %d", i+1, got, want)
		}
	}
}
