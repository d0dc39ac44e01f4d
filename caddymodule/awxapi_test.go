package caddymodule

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// awxAPI answers as AWX's HTTP API does: alice and root are logged in, no user may see job 13.
type awxAPI struct {
	*httptest.Server

	mu       sync.Mutex
	requests []*http.Request
}

func newAWXAPI(t *testing.T) *awxAPI {
	a := &awxAPI{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.requests = append(a.requests, r)
		a.mu.Unlock()
		who, err := r.Cookie("awx_sessionid")
		switch {
		case err != nil || who.Value != "alice" && who.Value != "root":
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/me/") && who.Value == "root":
			fmt.Fprint(w, `{"count": 1, "results": [{"id": 1, "username": "root", "is_superuser": true}]}`)
		case strings.HasSuffix(r.URL.Path, "/me/"):
			fmt.Fprint(w, `{"count": 1, "results": [{"id": 7, "username": "alice"}]}`)
		case strings.HasSuffix(r.URL.Path, "/jobs/13/"):
			w.WriteHeader(http.StatusForbidden)
		default:
			fmt.Fprint(w, `{"id": 42}`)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *awxAPI) asked() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}
