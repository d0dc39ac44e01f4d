package caddymodule

import (
	"net/http"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// The error of a fetch goes to the log, so it does not repeat the query: a route may put a token into it.
func TestErrorOfFetchHasNoQuery(t *testing.T) {
	f := &fetcher{client: http.DefaultClient, slots: make(chan struct{}, 1), timeout: patience, maxSize: 1}
	r, err := http.NewRequest(http.MethodGet, "http://"+testkit.Loopback(testkit.FreePort(t))+"/?token=secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.fetch(r); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}
