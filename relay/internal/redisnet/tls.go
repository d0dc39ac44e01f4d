package redisnet

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLS has the settings of encrypted connections. Files are read for each connection, so that renewed certificates need
// no reload.
type TLS struct {
	// CA is a PEM file with the certificates that sign the server's certificate. Default: the system's.
	CA string
	// Cert and Key are the files of the client certificate, if the server asks for a certificate.
	Cert, Key string
	// ServerName is the name in the server's certificate. Default: the host in the address.
	ServerName string
	// Insecure accepts any certificate.
	Insecure bool
}

// Config returns the configuration of a connection. Without ServerName, the caller sets the name to verify.
// See docs/decisions/layers.md#why-are-certificate-files-read-per-connection
func (t *TLS) Config() (*tls.Config, error) { return t.apply(&tls.Config{}) }

// or replaces empty settings by other settings. Either may be nil.
func (t *TLS) or(other *TLS) *TLS {
	if t == nil || other == nil {
		if t == nil {
			return other
		}
		return t
	}
	both := *t
	fill(&both.CA, other.CA)
	if both.Cert == "" && both.Key == "" { // a pair
		both.Cert, both.Key = other.Cert, other.Key
	}
	both.Insecure = both.Insecure || other.Insecure
	return &both
}

// apply adds the settings to c.
func (t *TLS) apply(c *tls.Config) (*tls.Config, error) {
	c.MinVersion = tls.VersionTLS12
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	c.InsecureSkipVerify = c.InsecureSkipVerify || t.Insecure
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls: ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: ca: %s has no PEM certificate", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, fmt.Errorf("tls: cert and key go together; set both")
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: cert %s and key %s: %w", t.Cert, t.Key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
