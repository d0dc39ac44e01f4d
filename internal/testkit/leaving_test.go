package testkit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// cutConn serves one request. The second request fails after some bytes, as on a connection whose server leaves.
type cutConn struct {
	net.Conn
	used    bool
	failure error
}

func (c *cutConn) Write(b []byte) (int, error) {
	if !c.used || !bytes.HasPrefix(b, []byte("POST")) {
		c.used = true
		return c.Conn.Write(b)
	}
	return 1, c.failure
}

// A server that leaves costs no request on a connection of a former request, whatever net/http makes of it.
func TestPatientClients(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	defer s.Close()
	for _, failure := range []error{
		io.EOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed, errors.New("http: server closed idle connection"),
	} {
		transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return &cutConn{Conn: c, failure: failure}, err
		}}
		client := http.Client{Transport: testkit.Patient(transport)}
		for _, body := range []io.Reader{
			strings.NewReader("body"), io.MultiReader(strings.NewReader("bo"), strings.NewReader("dy")),
			strings.NewReader("body"), strings.NewReader("body"),
		} {
			resp, err := client.Post(s.URL, "text/plain", body)
			if err != nil {
				t.Errorf("%v: a body of %T: %v", failure, body, err)
				continue
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || string(got) != "body" {
				t.Errorf("%v: a body of %T: %q, %v", failure, body, got, err)
			}
		}
		client.CloseIdleConnections()
	}
}

// A failure of another kind is the test's to see.
func TestPatientClientsSeeOtherFailures(t *testing.T) {
	refuse := func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
	client := http.Client{Transport: testkit.Patient(&http.Transport{DialContext: refuse})}
	if _, err := client.Get("http://127.0.0.1:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, want %v", err, syscall.ECONNREFUSED)
	}
}
