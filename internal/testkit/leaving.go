package testkit

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Leaving reports whether the error of a request may come from a server that stops or reloads its configuration. The
// HTTP server of Go then closes idle and just accepted connections, and the kernel resets connections that were not
// accepted.
func Leaving(err error) bool {
	for _, cause := range []error{io.EOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, cause) {
			return true
		}
	}
	// net/http does not export this error.
	return err != nil && strings.Contains(err.Error(), "server closed idle connection")
}

// leavingLimit bounds the time of a server that leaves.
var leavingLimit = Scale(5 * time.Second)

// Patient returns a transport that repeats the requests that a leaving server did not answer. A request whose body
// cannot be read again goes over a connection of its own: the server may be closing a connection of former requests.
func Patient(transport *http.Transport) http.RoundTripper {
	single := transport.Clone()
	single.DisableKeepAlives = true
	return patient{transport, single}
}

type patient struct {
	*http.Transport
	single http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		return p.single.RoundTrip(r)
	}
	for deadline := time.Now().Add(leavingLimit); ; {
		resp, err := p.Transport.RoundTrip(r)
		if !Leaving(err) || time.Now().After(deadline) {
			return resp, err
		}
		if r = r.Clone(r.Context()); r.GetBody != nil {
			if r.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}
