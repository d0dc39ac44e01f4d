package redisnet

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLS has the details of encrypted connections. The files are read anew for each connection, so renewed
// certificates need no reload.
type TLS struct {
	// CA is a file of certificates in PEM that sign the server's; default: those of the system.
	CA string
	// Cert and Key are the files of our own certificate, if the server asks for one.
	Cert, Key string
	// ServerName is the name in the server's certificate; default: the host that is dialled.
	ServerName string
	// Insecure takes any certificate.
	Insecure bool
}

// Config is the configuration of one connection; the name to verify, where none is set, is up to who dials.
// See docs/decisions/layers.md#why-are-certificate-files-read-per-connection
func (t *TLS) Config() (*tls.Config, error) { return t.apply(&tls.Config{}) }

// or fills in what is empty from other details. Either may be nil.
func (t *TLS) or(other *TLS) *TLS {
	if t == nil || other == nil {
		if t == nil {
			return other
		}
		return t
	}
	both := *t
	fill(&both.CA, other.CA)
	if both.Cert == "" && both.Key == "" { // they go together
		both.Cert, both.Key = other.Cert, other.Key
	}
	both.Insecure = both.Insecure || other.Insecure
	return &both
}

// apply adds the details to c.
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
			return nil, fmt.Errorf("tls: ca: %s holds no certificate in PEM", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, fmt.Errorf("tls: cert and key go together")
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
