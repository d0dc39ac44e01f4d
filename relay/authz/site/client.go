package site

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/internal/authority"
)

const (
	// maxResponse bounds the bytes that are read of a response's headers and of its body.
	maxResponse = 1 << 20
	// maxCredentialBytes bounds the credentials of one handshake, which stay in memory while the client is connected.
	maxCredentialBytes = 16 << 10
	// maxURI bounds the handshake's URI that is sent along.
	maxURI = 4 << 10
)

// header is a header of the handshake.
type header struct{ name, value string }

// credentials are the parts of a handshake that the site sees.
type credentials struct {
	cookie, authorization string
	headers               []header
	uri, host, proto      string
	address               netip.Addr
	key                   string // equal for handshakes that the site cannot tell apart; empty without credentials
	latest                atomic.Pointer[answer]
}

// LoginKey implements [relay.SharedLogin].
func (c *credentials) LoginKey() string { return c.key }

// Until implements [relay.ExpiringLogin].
func (c *credentials) Until() time.Time { return c.latest.Load().until }

// Profile implements [relay.ProfiledLogin].
func (c *credentials) Profile() string { return c.latest.Load().id.Profile }

// newCredentials copies what the site sees of a handshake.
func (a *Authorizer) newCredentials(r *http.Request) (*credentials, error) {
	c := &credentials{
		cookie:        strings.Clone(strings.Join(r.Header.Values("Cookie"), "; ")),
		authorization: strings.Clone(r.Header.Get("Authorization")),
		host:          strings.Clone(r.Host), proto: "http", address: a.settings.ClientAddress(r),
	}
	if r.TLS != nil {
		c.proto = "https"
	}
	if uri := r.URL.RequestURI(); a.settings.URI && len(uri) <= maxURI {
		c.uri = strings.Clone(uri)
	}
	size := len(c.cookie) + len(c.authorization)
	for _, name := range a.settings.Headers {
		for _, value := range r.Header.Values(name) {
			c.headers = append(c.headers, header{name, strings.Clone(value)})
			size += len(value)
		}
	}
	if size > maxCredentialBytes {
		return nil, fmt.Errorf("the handshake's cookies and tokens exceed %d bytes", maxCredentialBytes)
	}
	if key := a.keyOf(c); key != "" {
		sum := sha256.Sum256([]byte(key)) // keeps long cookies out of the caches
		c.key = string(sum[:])
	}
	return c, nil
}

// client sends questions, a bounded number at a time.
type client struct {
	settings Settings
	url      *url.URL
	shown    string // the URL without a password and query, for errors
	http     *http.Client
	queue    *authority.Queue
}

func newClient(s Settings) (*client, error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && s.Transport == nil {
		return nil, errors.New("auth http: invalid url; use one such as http://127.0.0.1:8000/edgerelay/auth/")
	}
	if u.User != nil || u.Fragment != "" {
		return nil, errors.New("auth http: the url contains a user or fragment; use one such as " +
			"http://127.0.0.1:8000/edgerelay/auth/, since each client is authenticated by its own credentials")
	}
	concurrency := max(s.Concurrency, 1)
	transport := s.Transport
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.Proxy = nil
		t.MaxIdleConns, t.MaxIdleConnsPerHost = concurrency, concurrency
		t.MaxResponseHeaderBytes = maxResponse
		transport = t
	}
	if s.WrapTransport != nil {
		transport = s.WrapTransport(transport)
	}
	return &client{
		settings: s, url: u, shown: u.Scheme + "://" + u.Host + u.Path,
		http: &http.Client{
			Transport: transport,
			// A redirect would send the client's credentials to another address.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		queue: authority.NewQueue("auth http", concurrency),
	}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// question is the body of a POST.
type question struct {
	Group string `json:"group,omitempty"`
	URI   string `json:"uri,omitempty"`
}

// request returns the request that asks about a login, or about a group.
func (c *client) request(ctx context.Context, of *credentials, group string) (*http.Request, error) {
	method, u := http.MethodGet, *c.url
	var body io.Reader
	if c.settings.Post {
		text, err := json.Marshal(question{group, of.uri})
		if err != nil {
			return nil, err
		}
		method, body = http.MethodPost, bytes.NewReader(text)
	} else if group != "" {
		query := u.Query()
		query.Set("group", group)
		u.RawQuery = query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	h := req.Header
	for _, extra := range of.headers {
		h.Add(extra.name, extra.value)
	}
	set := func(name, value string) {
		h.Del(name) // never the client's own
		if value != "" {
			h.Set(name, value)
		}
	}
	set("Accept", "application/json")
	set("User-Agent", "edgerelay")
	set("Cookie", of.cookie)
	set("Authorization", of.authorization)
	set("X-Forwarded-Host", of.host)
	set("X-Forwarded-Proto", of.proto)
	set("X-Forwarded-Uri", of.uri)
	set("X-Edgerelay-Key", c.settings.Key)
	if of.address.IsValid() {
		set("X-Forwarded-For", of.address.WithZone("").String())
	}
	if body != nil {
		set("Content-Type", "application/json")
	}
	return req, nil
}

// ask sends a question after waiting for the requester's turn. relay.ErrUnauthenticated and relay.ErrDenied are
// answers; any other error means that there is none.
func (c *client) ask(ctx context.Context, of *credentials, by authority.Requester, group string) (*answer, error) {
	release, err := c.queue.Acquire(ctx, by)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, c.settings.Timeout)
	defer cancel()
	req, err := c.request(ctx, of, group)
	if err != nil {
		return nil, fmt.Errorf("auth http: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var in *url.Error
		if errors.As(err, &in) { // its text repeats the query
			err = in.Err
		}
		return nil, fmt.Errorf("auth http: asking %s: %w", c.shown, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("auth http: reading the response of %s: %w", c.shown, err)
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, relay.ErrUnauthenticated
	case resp.StatusCode == http.StatusForbidden && group != "":
		return nil, relay.ErrDenied
	case resp.StatusCode == http.StatusForbidden:
		return nil, relay.ErrUnauthenticated
	case resp.StatusCode != http.StatusOK:
		return nil, c.unexpectedStatus(resp.StatusCode)
	case len(body) > maxResponse:
		return nil, fmt.Errorf("auth http: the response of %s is longer than %d bytes", c.shown, maxResponse)
	}
	u, err := parseAnswer(body, time.Now())
	if err != nil && !errors.Is(err, relay.ErrUnauthenticated) {
		err = fmt.Errorf("auth http: %s: %w", c.shown, err)
	}
	return u, err
}

// unexpectedStatus returns the error for a response that is no answer.
func (c *client) unexpectedStatus(status int) error {
	remedy := ""
	switch {
	case status >= 300 && status < 400:
		remedy = " (a redirect); answer 401 in place of a login page, and check the scheme, the address and its last slash"
	case status == http.StatusBadRequest:
		remedy = "; with Django, add the host of the url to ALLOWED_HOSTS"
	}
	return fmt.Errorf("auth http: %s responded %d %s%s", c.shown, status, http.StatusText(status), remedy)
}
