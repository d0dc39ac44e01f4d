//go:build linux

package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// apiTime is the response time of the fake API, about that of a Django view with a session and a query.
const apiTime = 20 * time.Millisecond

// fakeAPI answers `auth awx` as AWX's API does, and counts the requests.
type fakeAPI struct {
	ln    net.Listener
	asked atomic.Int64
}

func startFakeAPI() (*fakeAPI, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	a := &fakeAPI{ln: ln}
	server := &http.Server{Handler: a, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }()
	return a, nil
}

func (a *fakeAPI) url() string { return "http://" + a.ln.Addr().String() }

func (a *fakeAPI) close() { _ = a.ln.Close() }

// ServeHTTP knows the users user1, user2 and so on by their session cookies; every user may see everything.
func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked.Add(1)
	time.Sleep(apiTime)
	cookie, err := r.Cookie("awx_sessionid")
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	id := strings.TrimPrefix(cookie.Value, "user")
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, "/me/") {
		fmt.Fprintf(w, `{"count":1,"results":[{"id":%s,"username":%q,"is_superuser":false,"is_system_auditor":false}]}`,
			id, cookie.Value)
		return
	}
	fmt.Fprint(w, `{}`)
}
