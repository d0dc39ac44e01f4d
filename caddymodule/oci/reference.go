// Package oci pushes modules of plugins to OCI registries, and pulls them. [Registry] holds credentials and settings;
// its methods are safe for concurrent use. Everything that a registry sends is bounded before it is read, and has the
// digest that was asked for, or is an error.
//
// See docs/decisions/shipping.md#why-does-oras-speak-to-registries
package oci

import (
	"fmt"
	"net"
	"strings"

	"oras.land/oras-go/v2/registry"

	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// Scheme begins every reference.
const Scheme = "oci://"

// Reference names an artifact in a registry, as in oci://registry/repository:tag@sha256:….
type Reference struct {
	// Registry is a host with an optional port.
	Registry   string
	Repository string
	// Tag is empty if the reference has a digest alone.
	Tag string
	// Digest is empty in a reference by tag.
	Digest string
}

// IsReference reports whether a text names an artifact rather than a file.
func IsReference(text string) bool { return strings.HasPrefix(text, Scheme) }

// ParseReference reads a reference. Without tag and digest, the tag is latest.
func ParseReference(text string) (r Reference, err error) {
	rest, ok := strings.CutPrefix(text, Scheme)
	if !ok {
		return r, fmt.Errorf("invalid reference %.200q; use one such as oci://registry.example.com/plugins/redact:2.0", text)
	}
	rest, r.Digest, _ = strings.Cut(rest, "@")
	parsed, err := registry.ParseReference(rest)
	if err != nil {
		return r, fmt.Errorf("invalid reference %.200q: %w; use one such as oci://registry.example.com/plugins/redact:2.0",
			text, err)
	}
	r.Registry, r.Repository, r.Tag = parsed.Registry, parsed.Repository, parsed.Reference
	switch {
	case strings.Contains(text, "@") && !artifact.ValidDigest(r.Digest):
		return r, fmt.Errorf("invalid digest in %.200q; use sha256: and 64 hexadecimal digits", text)
	case r.Tag == "" && r.Digest == "":
		r.Tag = "latest"
	}
	return r, nil
}

// String returns the reference as [ParseReference] reads it.
func (r Reference) String() string {
	text := Scheme + r.Registry + "/" + r.Repository
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Digest != "" {
		text += "@" + r.Digest
	}
	return text
}

// name returns what a registry is asked for: the digest, or else the tag.
func (r Reference) name() string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Tag
}

// isLoopback reports whether the registry runs on this machine, where requests need no TLS.
func (r Reference) isLoopback() bool {
	host, _, err := net.SplitHostPort(r.Registry)
	if err != nil {
		host = strings.Trim(r.Registry, "[]")
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
