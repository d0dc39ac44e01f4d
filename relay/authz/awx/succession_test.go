package awx_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay/authz/awx"
)

// After a reload, a login that the previous authorizer confirmed does not queue with strangers.
func TestKnownLoginsSurviveReload(t *testing.T) {
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	requested := make(chan struct{}, 100)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Cookie"), "alice") {
			requested <- struct{}{}
			<-hold
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"results": [{"id": 7, "username": "alice"}]}`))
	}))
	defer api.Close()
	defer release()
	settings := awx.DefaultSettings()
	settings.URL, settings.Cache = api.URL, 0
	const slots = 16 // the fewest with which one slot is reserved for each class
	settings.Concurrency = slots
	handshake := func(ctx context.Context, a *awx.Authorizer, address, session string) error {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/websocket/", nil)
		r.RemoteAddr = address + ":1000"
		r.AddCookie(&http.Cookie{Name: "awx_sessionid", Value: session})
		_, err := a.Authenticate(r)
		return err
	}
	before, err := awx.NewAuthorizer(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if err := handshake(t.Context(), before, "10.0.0.1", "alice"); err != nil {
		t.Fatal(err)
	}
	after, err := awx.NewAuthorizer(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	after.Succeed(before)

	var strangers sync.WaitGroup
	defer strangers.Wait()
	defer release()
	for i := range 2 * slots {
		strangers.Go(func() { _ = handshake(t.Context(), after, fmt.Sprintf("10.1.0.%d", i), fmt.Sprint("stranger", i)) })
	}
	for range slots - 3 { // all slots that strangers may use
		<-requested
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := handshake(ctx, after, "10.0.0.1", "alice"); err != nil {
		t.Errorf("known login beside strangers: %v", err)
	}
}
