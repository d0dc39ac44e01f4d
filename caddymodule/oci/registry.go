package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// Environment variables with credentials, for the registry of a command's reference.
const (
	EnvUsername = "EDGERELAY_REGISTRY_USERNAME"
	EnvPassword = "EDGERELAY_REGISTRY_PASSWORD"
)

const (
	// Timeout bounds a push or a pull.
	Timeout = 2 * time.Minute

	dialTimeout    = 10 * time.Second
	headerTimeout  = 30 * time.Second
	maxRedirects   = 5
	maxRetries     = 2
	longestBackoff = 2 * time.Second
)

// Registry has the credentials and settings for requests to registries. The zero value takes the credentials from the
// environment, or else from Docker's configuration file.
type Registry struct {
	// Username and Password are sent to the registry of the reference, and to no other.
	Username, Password string
	// PlainHTTP turns TLS off or on. By default, TLS is off for registries on this machine alone.
	PlainHTTP *bool
	// Transport sends the requests. Default: a transport with time limits, and the system's certificates.
	Transport http.RoundTripper
}

var defaultTransport = &http.Transport{
	Proxy:       http.ProxyFromEnvironment,
	DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSHandshakeTimeout: dialTimeout,
	ResponseHeaderTimeout: headerTimeout, ForceAttemptHTTP2: true, IdleConnTimeout: dialTimeout, MaxIdleConnsPerHost: 2,
}

// open returns the repository of a reference.
func (g *Registry) open(ref Reference) (*remote.Repository, error) {
	repo, err := remote.NewRepository(ref.Registry + "/" + ref.Repository)
	if err != nil {
		return nil, err
	}
	repo.PlainHTTP = ref.isLoopback()
	if g.PlainHTTP != nil {
		repo.PlainHTTP = *g.PlainHTTP
	}
	repo.MaxMetadataBytes = maxSignatures
	repo.ManifestMediaTypes = []string{artifact.ManifestType, artifact.IndexType}
	credential, err := g.credential(ref)
	if err != nil {
		return nil, err
	}
	transport := retry.NewTransport(cmp.Or[http.RoundTripper](g.Transport, defaultTransport))
	transport.Policy = func() retry.Policy {
		return &retry.GenericPolicy{
			Retryable: retry.DefaultPredicate, Backoff: retry.DefaultBackoff, MaxWait: longestBackoff, MaxRetry: maxRetries,
		}
	}
	client := &auth.Client{
		Client:     &http.Client{Transport: transport, CheckRedirect: checkRedirect(repo.PlainHTTP)},
		Credential: credential, Cache: auth.NewCache(), Header: http.Header{"User-Agent": {"edgerelay"}},
	}
	if ref.isLoopback() { // its token server may run on this machine, too
		client.BlockedRealmPrefixes = []netip.Prefix{}
	}
	repo.Client = client
	return repo, nil
}

// checkRedirect returns a check of redirects. Registries redirect to the servers that store the blobs, which get no
// credentials; TLS stays.
func checkRedirect(plainHTTP bool) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) > maxRedirects:
			return fmt.Errorf("the registry redirects more than %d times", maxRedirects)
		case req.URL.Scheme != "https" && !plainHTTP:
			return fmt.Errorf("the registry redirects to %s without TLS", req.URL.Redacted())
		}
		return nil
	}
}

// credential returns the source of the credentials for a registry.
func (g *Registry) credential(ref Reference) (auth.CredentialFunc, error) {
	username, password := g.Username, g.Password
	if username == "" && password == "" {
		username, password = os.Getenv(EnvUsername), os.Getenv(EnvPassword)
	}
	host := ref.Registry
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	if username != "" || password != "" {
		if username == "" || password == "" {
			return nil, errors.New("the credentials for the registry are incomplete; give a user name and a password")
		}
		return auth.StaticCredential(host, auth.Credential{Username: username, Password: password}), nil
	}
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading Docker's configuration file: %w; correct it, or pass --username", err)
	}
	fromDocker := credentials.Credential(store)
	return func(ctx context.Context, hostport string) (auth.Credential, error) {
		c, err := fromDocker(ctx, hostport)
		if err != nil {
			err = fmt.Errorf("reading the credentials of %s from Docker's configuration: %w; log in again, or pass --username",
				hostport, err)
		}
		return c, err
	}, nil
}
