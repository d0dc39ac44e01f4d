package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Error is a failed request to a registry.
type Error struct {
	// Op is the failed operation, "pull" or "push".
	Op  string
	Ref Reference
	// Remedy is the fix, in the imperative.
	Remedy string
	err    error
}

// Error names operation, reference, cause and remedy.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s %s: %v", e.Op, e.Ref, e.err)
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

// explain returns an [Error] with a remedy.
func explain(op string, ref Reference, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Ref: ref, Remedy: remedy(ref, err), err: shorten(err)}
}

// shorten replaces the error of a response, which has the whole address, by the registry's own words.
func shorten(err error) error {
	if resp := new(errcode.ErrorResponse); errors.As(err, &resp) {
		text := strings.ToLower(http.StatusText(resp.StatusCode))
		if len(resp.Errors) > 0 {
			text += ": " + resp.Errors.Error()
		}
		return &statusError{fmt.Sprintf("HTTP %d %.300s", resp.StatusCode, text), err}
	}
	return err
}

type statusError struct {
	text string
	err  error
}

func (e *statusError) Error() string { return e.text }
func (e *statusError) Unwrap() error { return e.err }

func remedy(ref Reference, err error) string {
	var (
		resp      *errcode.ErrorResponse
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		dns       *net.DNSError
	)
	switch {
	case errors.As(err, &resp):
		return remedyOfStatus(ref, resp.StatusCode)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return remedyOfStatus(ref, http.StatusUnauthorized)
	case errors.Is(err, errdef.ErrNotFound):
		return remedyOfStatus(ref, http.StatusNotFound)
	case errors.As(err, &authority), errors.As(err, &name), errors.As(err, &invalid):
		return "check the registry's certificate; SSL_CERT_FILE may name further authorities"
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return "the registry has no TLS; pass --plain-http if you trust the network"
	case errors.Is(err, content.ErrMismatchedDigest), errors.Is(err, content.ErrTrailingData),
		errors.Is(err, content.ErrInvalidDescriptorSize), errors.Is(err, io.ErrUnexpectedEOF),
		strings.Contains(err.Error(), "mismatch"): // oras compares headers, too, and has no error of its own for them
		return "the content is not what the digest names; do not use it, and check the registry"
	case errors.As(err, &dns):
		return "check the name of the registry"
	case errors.Is(err, context.DeadlineExceeded):
		return "check the network, and repeat the command"
	}
	return ""
}

func remedyOfStatus(ref Reference, status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return fmt.Sprintf("log in with 'docker login %s', or pass --username and --password-stdin", ref.Registry)
	case status == http.StatusForbidden:
		return "the account may not do this; use another one, or ask the registry's administrator"
	case status == http.StatusNotFound:
		return "check the repository and the tag or digest"
	case status == http.StatusTooManyRequests:
		return "the registry limits requests; log in, or repeat the command later"
	case status >= 500:
		return "the registry fails; repeat the command later"
	}
	return ""
}
