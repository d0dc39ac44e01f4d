package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/internal/wsclient"
)

// browserFlags are the flags of commands that connect to the relay as a browser does.
type browserFlags struct {
	url      string
	headers  []string
	ca       string
	insecure bool
}

func (f *browserFlags) register(cmd *cobra.Command, urlUsage string) {
	cmd.Flags().StringVar(&f.url, "url", "", urlUsage)
	cmd.Flags().StringArrayVar(&f.headers, "header", nil,
		`a header of the handshake, as "Name: value"; may be repeated`)
	cmd.Flags().StringVar(&f.ca, "ca", "", "a PEM file with the certificates of the authority that signed the site's, if it is a private one")
	cmd.Flags().BoolVar(&f.insecure, "insecure", false, "accept any certificate of the site")
}

// dialer reads what the flags name.
func (f *browserFlags) dialer() (*dialer, error) {
	header, err := parseHeaders(f.headers)
	if err != nil {
		return nil, err
	}
	d := &dialer{url: f.url, header: header}
	if f.insecure {
		d.tls = &tls.Config{InsecureSkipVerify: true}
	}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("reading --ca: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %s holds no certificate; it must be in PEM format", f.ca)
		}
		d.tls = &tls.Config{RootCAs: roots, InsecureSkipVerify: f.insecure}
	}
	return d, nil
}

// parseHeaders reads headers as they are given on a command line.
func parseHeaders(lines []string) (http.Header, error) {
	h := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, errors.New("a header is written as \"Name: value\"") // not repeated: it may hold a secret
		}
		h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return h, nil
}

// dialer opens websockets as a browser does.
type dialer struct {
	url    string
	header http.Header
	tls    *tls.Config // nil: the system's authorities
}

func (d *dialer) dial(ctx context.Context) (*wsclient.Client, error) {
	return wsclient.Dial(ctx, d.url, d.header, d.tls)
}

// dialRemedy says what mends a failed connection.
func dialRemedy(err error) string {
	var unknown x509.UnknownAuthorityError
	var refused *wsclient.RefusedError
	switch {
	case errors.As(err, &unknown):
		return "name the authority's certificate with --ca, or skip the check with --insecure"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "check the site's certificate and the host name in --url; --insecure skips the check"
	case errors.Is(err, wsclient.ErrNotLoggedIn):
		return `log in with a browser and give its cookies: --header "Cookie: awx_sessionid=…; csrftoken=…"`
	case errors.As(err, &refused) && refused.Status == http.StatusForbidden:
		return "add the page's origin to edgerelay's origins, or log in and give the browser's cookies with --header"
	case errors.As(err, &refused) && (refused.Status == http.StatusTooManyRequests ||
		refused.Status == http.StatusServiceUnavailable):
		return "see the relay's log: it is full, drained, or cannot ask who the user is"
	case errors.As(err, &refused) && refused.Status == http.StatusUnauthorized:
		return `log in with a browser and give its cookies: --header "Cookie: …"`
	}
	return "does the proxy in front of the relay pass websockets on (Upgrade, Connection, Cookie), and is the path the relay's?"
}
