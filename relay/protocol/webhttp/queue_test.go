package webhttp_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// A queue that no process could allocate is an error, not a panic.
func TestQueueIsBounded(t *testing.T) {
	s := webhttp.Settings{URL: &url.URL{Scheme: "http", Host: "127.0.0.1:8000"}, Queue: webhttp.MaxQueue + 1}
	_, err := webhttp.NewBackend(s, webhttp.NewFormat(nil))
	if err == nil || !strings.Contains(err.Error(), "queue: number 1000001 is too large; use 1000000 at most") {
		t.Error(err)
	}
	s.Queue = webhttp.MaxQueue
	if _, err := webhttp.NewBackend(s, webhttp.NewFormat(nil)); err != nil {
		t.Error(err)
	}
}
