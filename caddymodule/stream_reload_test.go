package caddymodule

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/ssetest"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// A drain sends streams away, each after a time of its own.
func TestStreamsDrain(t *testing.T) {
	s := newSite(t)
	s.mustLoad(withHistory, streamSite)
	c := ssetest.Open(t, http.DefaultClient, "http://"+s.addr+"/websocket/?group=job_events-1")
	node.Current().Hub.Drain(hub.Pace{})
	c.Want("close", `{"code":1012,"reason":"node is draining; reconnect"}`)
	if c.Retry < time.Second || c.Retry > 10*time.Second {
		t.Errorf("retry after %v", c.Retry)
	}
	if resp, _ := s.request("GET", "/websocket/?group=a-b", "", "Accept: text/event-stream"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("during the drain: %d", resp.StatusCode)
	}
	node.Current().Hub.Undrain()
}

// Over HTTP/2 and HTTP/3 a stream ends by its age and after a reload, and the client resumes. Over HTTP/1.1 it stays.
func TestStreamsAndReloads(t *testing.T) {
	s := newSite(t)
	load := func(age string) {
		t.Helper()
		file := s.file(withHistory+"\nevent_stream_age "+age, "tls internal\nlog\nencode gzip\n"+streamSite)
		host := "https://" + strings.Replace(s.addr, "127.0.0.1", "localhost", 1)
		if err := s.load(strings.Replace(file, s.addr2(), host, 1)); err != nil {
			t.Fatal(err)
		}
	}
	load("1h")
	url := "https://" + strings.Replace(s.addr, "127.0.0.1", "localhost", 1) + "/websocket/?group=job_events-1"
	client := func(h2 bool) *http.Client {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	var h2 *ssetest.Client
	testkit.Eventually(t, "there is a certificate", func() (err error) {
		h2, err = ssetest.Try(t, client(true), url)
		return err
	})
	h1 := ssetest.Open(t, client(false), url)
	if h2.Response.ProtoMajor != 2 || h1.Response.ProtoMajor != 1 {
		t.Fatalf("HTTP/%d and HTTP/%d", h2.Response.ProtoMajor, h1.Response.ProtoMajor)
	}
	s.emitText("job_events-1", "1")
	h1.Want("", "1")
	last := h2.Want("", "1")
	load("2h")
	if e, err := h2.Next(); err != io.EOF || h2.Retry != 20*time.Millisecond {
		t.Fatalf("after a reload: %+v, %v, retry %v", e, err, h2.Retry)
	}
	s.emitText("job_events-1", "2")
	h2 = ssetest.Open(t, client(true), url, "Last-Event-ID: "+last.ID)
	if e := h2.Want("subscribed", ""); !strings.Contains(e.Data, `"recovered":true`) {
		t.Errorf("%+v", e)
	}
	h2.Want("", "2")
	h1.Want("", "2")
	h2.Close()
	load("1s")
	var old *ssetest.Client
	// The listener before may have reset a connection.
	testkit.Eventually(t, "a connection after the reload", func() (err error) {
		old, err = ssetest.Try(t, client(true), url)
		return err
	})
	for {
		if _, err := old.Next(); err != nil {
			break
		}
	}
	s.emitText("job_events-1", "3")
	h1.Want("", "3")
	h1.Close()
	testkit.Eventually(t, "all sessions end", func() bool { return node.Current().Hub.Stats().Sessions == 0 })
}

// 100 reloads under load: no stream over HTTP/1.1 ends, and each gets each event once and in order.
func TestStreamsSurviveReloads(t *testing.T) {
	s := newSite(t)
	lines := func(i int) string {
		return fmt.Sprintf("%s\nlimits {\ngroups_per_connection %d\n}", withHistory, 100+i)
	}
	s.mustLoad(lines(0), streamSite)
	const clients, reloads = 20, 100
	failed := make(chan error, clients)
	for i := range clients {
		path := []string{"/websocket/?group=job_events-1", "/websocket/?group=job_events-1&group=job_events-2", "/ws/a/"}[i%3]
		c := ssetest.Open(t, http.DefaultClient, "http://"+s.addr+path)
		go func() { failed <- readNumbers(c, reloads) }()
	}
	for i := 1; i <= reloads; i++ {
		s.mustLoad(lines(i), streamSite)
		s.emitText("job_events-1", fmt.Sprint(i))
		s.emit("r_a", "x.text", fmt.Sprintf(`{"text": "%d"}`, i))
	}
	for range clients {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if opened := node.Current().Hub.Stats().Opened; opened != clients {
		t.Errorf("%d connections were opened, want %d", opened, clients)
	}
}

// readNumbers reads events with the numbers 1 to n.
func readNumbers(c *ssetest.Client, n int) error {
	for want := 1; want <= n; {
		e, err := c.Next()
		switch {
		case err != nil || e.Name == "close":
			return fmt.Errorf("%+v, %v; want event %d", e, err, want)
		case e.Name != "" || strings.HasPrefix(e.Data, "hello"):
		case e.Data != fmt.Sprint(want):
			return fmt.Errorf("got %q, want event %d", e.Data, want)
		default:
			want++
		}
	}
	return nil
}
