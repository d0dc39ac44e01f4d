package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"syscall"

	"github.com/edgerelay/edgerelay/internal/wsclient"
)

// checkURL returns an error unless a text is the URL of a websocket, so that no command dials anything else.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"ws", "wss", "http", "https"}, u.Scheme) ||
		u.Port() != "" && !isPort(u.Port()) {
		return usageErrorf("--url: invalid URL %q; use one such as ws://localhost:8013/websocket/", withoutUser(text))
	}
	return nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// dialCause returns the cause of a failed connection, without the URL of the request, which the command shows itself.
func dialCause(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}

// dialRemedy returns the remedy for a failed connection.
func dialRemedy(err error) string {
	var rejected *wsclient.RefusedError
	switch {
	case errors.Is(err, wsclient.ErrNotLoggedIn):
		return `log in with a browser and pass its cookies: --header "Cookie: awx_sessionid=…; csrftoken=…"`
	case errors.As(err, &rejected):
		return statusRemedy(rejected.Status)
	}
	if remedy := tlsRemedy(err); remedy != "" {
		return remedy
	}
	if remedy := networkRemedy(err); remedy != "" {
		return remedy
	}
	return "check the path in --url, and pass Upgrade, Connection and Cookie on in any proxy in front of the relay"
}

// statusRemedy returns the remedy for a handshake with a response other than 101.
func statusRemedy(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return `log in with a browser and pass its cookies: --header "Cookie: …"`
	case http.StatusForbidden:
		return "add the page's origin to edgerelay's origins, or log in and pass the browser's cookies with --header"
	case http.StatusNotFound:
		return "correct the path in --url: the site has no websocket there"
	case http.StatusBadRequest:
		return "use wss:// in --url if the port speaks TLS, and pass Upgrade and Connection on in any proxy in front of " +
			"the relay"
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return "see the relay's log: the relay is full or drained, or authentication is unavailable"
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return "start the relay, or correct its address in the proxy in front of it"
	}
	if status >= http.StatusInternalServerError {
		return "see the log of the relay, and of any proxy in front of it"
	}
	return "check the path in --url, and pass Upgrade and Connection on in any proxy in front of the relay"
}

// tlsRemedy returns the remedy for a failed TLS handshake; empty for other errors.
func tlsRemedy(err error) string {
	var unknown x509.UnknownAuthorityError
	var alert *net.OpError
	switch {
	case errors.As(err, &unknown):
		return "pass the authority's certificate with --ca, or skip the check with --insecure"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "check the site's certificate and the host name in --url; --insecure skips the check"
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, new(tls.RecordHeaderError)):
		return "use ws:// in --url, or the port of the site's TLS"
	case errors.As(err, &alert) && alert.Op == "remote error": // crypto/tls: an alert of the server
		return "check the host name in --url: the site may have no certificate for it"
	}
	return ""
}

// networkRemedy returns the remedy for a connection that was not established; empty for other errors.
func networkRemedy(err error) string {
	var lookup *net.DNSError
	switch {
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return "correct the host name in --url"
	case errors.As(err, &lookup):
		return "check the DNS servers of this machine, or use an IP address in --url"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "start the site, or correct host and port in --url"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "check host and port in --url, and the firewalls on the way"
	}
	return ""
}

// listenRemedy returns the remedy for an address that the command cannot listen on. flag sets the address.
func listenRemedy(err error, flag string) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "stop the other program, or set " + flag
	case errors.Is(err, os.ErrPermission):
		return "set " + flag + " to a port above 1023"
	}
	return "set " + flag + " to an address of this machine"
}
