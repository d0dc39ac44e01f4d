package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"
)

// peerConn is a connection with a peer after a handshake.
type peerConn struct {
	net.Conn
	reader  *bufio.Reader
	resp    *http.Response
	connect time.Duration // for TCP
	tls     *tls.ConnectionState
}

// dialPeer connects to a URL's host and sends a WebSocket handshake with a header.
func dialPeer(ctx context.Context, target string, header http.Header, config *tls.Config) (*peerConn, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	began := time.Now()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", hostPort(req.URL))
	if err != nil {
		return nil, err
	}
	c := &peerConn{Conn: conn, connect: time.Since(began)}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if req.URL.Scheme == "https" {
		secure := tls.Client(conn, peerTLS(config, req.URL.Hostname()))
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, &tlsError{err}
		}
		state := secure.ConnectionState()
		c.Conn, c.tls = secure, &state
	}
	c.reader = bufio.NewReader(c.Conn)
	if err = req.Write(c.Conn); err == nil {
		c.resp, err = http.ReadResponse(c.reader, req)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// hostPort returns the address in a URL.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// peerTLS returns the configuration for a peer. Records are not split, so that full packets leave.
func peerTLS(config *tls.Config, host string) *tls.Config {
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	config = config.Clone()
	config.DynamicRecordSizingDisabled = true
	config.NextProtos = []string{"http/1.1"}
	if config.ServerName == "" {
		config.ServerName = host
	}
	return config
}

// tlsError is a failure of the TLS handshake.
type tlsError struct{ error }

func (e *tlsError) Unwrap() error { return e.error }

// warnExpiry is the time before the end of a certificate at which a warning begins.
const warnExpiry = 14 * 24 * time.Hour

// judgeTLS returns the finding for the TLS connection with a peer.
func judgeTLS(url string, state *tls.ConnectionState) Finding {
	const check = "peer tls"
	version := tls.VersionName(state.Version)
	if len(state.PeerCertificates) == 0 {
		return ok(check, "%s: %s", url, version)
	}
	until := state.PeerCertificates[0].NotAfter
	if left := time.Until(until); left < warnExpiry {
		return warn(check, "renew the node's certificate", "%s: %s; the certificate is valid until %s only", url,
			version,
			until.Format(time.DateOnly))
	}
	return ok(check, "%s: %s; the certificate is valid until %s", url, version, until.Format(time.DateOnly))
}
