package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

const (
	// maxReturnedHeaders bounds the headers of a response, in bytes.
	maxReturnedHeaders = 64 << 10
	// idleTimeout is how long a connection is kept for further requests.
	idleTimeout = 30 * time.Second
	// handshakeTimeout bounds a TLS handshake.
	handshakeTimeout = 10 * time.Second
)

// errAddress tells that a connection would go to an address that the policy does not allow.
var errAddress = errors.New("the host's address is not public; grant its network with private")

// newTransport returns a transport that connects to allowed addresses only.
func (c *Client) newTransport(r *rules) *http.Transport {
	dialer := &net.Dialer{
		Timeout: r.Timeout, KeepAlive: 15 * time.Second, Resolver: r.Resolver,
		// Called with each address that a look-up returned, directly before the connection.
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !reachable(at.Addr(), r.Private) {
				return errAddress
			}
			return nil
		},
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if r.TLS != nil {
		config = r.TLS.Clone()
	}
	return &http.Transport{
		// A proxy would look up the host itself, where the addresses are not checked.
		Proxy: nil,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			// A transport goes on dialing for requests that have ended.
			ctx, cancel := context.WithCancel(ctx)
			defer context.AfterFunc(c.closing, cancel)()
			defer cancel()
			return dialer.DialContext(ctx, network, address)
		},
		TLSClientConfig: config, TLSHandshakeTimeout: handshakeTimeout, ForceAttemptHTTP2: true,
		// Neither Accept-Encoding nor decompression: a response has as many bytes as it has on the wire.
		DisableCompression: true, MaxResponseHeaderBytes: maxReturnedHeaders, MaxConnsPerHost: r.InFlight,
		MaxIdleConnsPerHost: 2, MaxIdleConns: 8, IdleConnTimeout: idleTimeout,
	}
}

// failure returns the result of a request without a response. The reason is one of a few texts: an error of the
// transport may show a part of the response.
func (s *Slot) failure(ctx context.Context, err error) Result {
	var dns *net.DNSError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var op *net.OpError
	switch {
	case errors.Is(err, errAddress):
		return failed(Denied, errAddress.Error())
	case s.client.closing.Err() != nil:
		return failed(Unavailable, "the relay is stopping, or the plugin's configuration has changed")
	case ctx.Err() != nil:
		return failed(Unavailable, fmt.Sprintf("no complete response within %v", s.Timeout()))
	case errors.As(err, &dns):
		return failed(Unavailable, "the host cannot be resolved")
	case errors.As(err, &verify), errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.HostnameError)):
		return failed(Unavailable, "the server's certificate is not valid")
	case errors.As(err, &record), errors.As(err, &alert):
		return failed(Unavailable, "the TLS handshake failed")
	case errors.As(err, &op) && op.Op == "dial":
		return failed(Unavailable, "the connection was refused or is not possible")
	}
	return failed(Unavailable, "the connection broke, or the response is not valid HTTP")
}
