package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/internal/wsclient"
)

// browserFlags are the flags of commands that connect to the relay like a browser.
type browserFlags struct {
	url      string
	headers  []string
	ca       string
	insecure bool
}

// register adds the flags to a command.
func (f *browserFlags) register(cmd *cobra.Command, urlUsage string) {
	cmd.Flags().StringVar(&f.url, "url", "", urlUsage)
	cmd.Flags().StringArrayVar(&f.headers, "header", nil,
		`header of the handshake, as "Name: value"; repeatable`)
	cmd.Flags().StringVar(&f.ca, "ca", "", "PEM file with the certificates of a private authority")
	cmd.Flags().BoolVar(&f.insecure, "insecure", false, "accept any certificate")
}

// dialer returns the dialer that the flags describe.
func (f *browserFlags) dialer() (*dialer, error) {
	if f.url != "" {
		if err := checkURL(f.url); err != nil {
			return nil, err
		}
	}
	header, err := parseHeaders(f.headers)
	if err != nil {
		return nil, err
	}
	d := &dialer{url: f.url, header: header}
	if f.insecure {
		d.tls = &tls.Config{InsecureSkipVerify: true}
	}
	if f.ca != "" {
		pem, err := readFile("certificates", f.ca)
		if err != nil {
			return nil, usageErrorf("--ca: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, usageErrorf("--ca %s contains no certificate; use the PEM format", f.ca)
		}
		d.tls = &tls.Config{RootCAs: roots, InsecureSkipVerify: f.insecure}
	}
	return d, nil
}

// parseHeaders parses headers of a command line.
func parseHeaders(lines []string) (http.Header, error) {
	h := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			// The error does not repeat the header, which may contain a secret.
			return nil, usageErrorf("invalid --header; use \"Name: value\"")
		}
		h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return h, nil
}

// dialer opens websockets like a browser.
type dialer struct {
	url    string
	header http.Header
	tls    *tls.Config // nil trusts the system's authorities
}

// dial opens a websocket.
func (d *dialer) dial(ctx context.Context) (*wsclient.Client, error) {
	return wsclient.Dial(ctx, d.url, d.header, d.tls)
}
