package jwt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// unknownKeyPause is the shortest time between two fetches because of tokens with an unknown key id. Anybody can
	// send such tokens.
	unknownKeyPause = time.Minute
	// retryPause is the shortest time between two attempts after a failed fetch.
	retryPause = 5 * time.Second
	// maxKeySetBytes bounds the bytes that are read of a key set.
	maxKeySetBytes = 512 << 10
)

// keySet has the keys of an authorizer: fixed ones, or those of a JWKS address. Methods may be called concurrently.
//
// A set that was fetched stays in use while the address does not answer, until it is too old.
// See docs/decisions/protocol-and-authz.md#why-do-old-keys-count-while-the-key-set-cannot-be-fetched
type keySet struct {
	url, shown      string // empty: fixed keys; shown is the url without a password
	client          *http.Client
	refresh, maxAge time.Duration
	timeout         time.Duration

	mu sync.Mutex // guards all below
	// keys are the last keys that were fetched, at fetched; or the fixed ones. The slice is immutable.
	keys    []*key
	fetched time.Time
	// tried is the time of the last attempt, unknown that of the last one because of an unknown key, and failure the
	// error of the last attempt, nil if it succeeded.
	tried, unknown time.Time
	failure        error
	// flight is not nil while a fetch is in flight; it is closed at the end.
	flight  chan struct{}
	fetches uint64
	failed  uint64
}

// newKeySet checks the settings. Errors do not repeat a key.
func newKeySet(s Settings) (*keySet, error) {
	switch {
	case s.JWKS != "" && s.Key != "":
		return nil, errors.New("key and jwks are both given; remove one")
	case s.JWKS == "" && s.Key == "":
		return nil, errors.New("either jwks or a key is needed; add one, such as jwks https://id.example.com/jwks.json")
	case s.Key != "":
		keys, err := parseKeys(s.Key)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		return &keySet{keys: keys}, nil
	}
	u, err := url.Parse(s.JWKS)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("jwks: invalid url; use one such as https://id.example.com/.well-known/jwks.json")
	}
	transport := s.Transport
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 1, 1
		t.MaxResponseHeaderBytes = 64 << 10
		transport = t
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 3 || r.URL.Scheme != via[0].URL.Scheme {
			return errors.New("too many redirects, or one to another scheme")
		}
		return nil
	}}
	return &keySet{url: s.JWKS, shown: u.Redacted(), client: client, refresh: s.Refresh, maxAge: s.MaxAge, timeout: s.Timeout}, nil
}

// current returns the keys. A set that is due is fetched in the background; one that is overdue, before current
// returns. The error means that no key set could be fetched for too long.
func (s *keySet) current(ctx context.Context) ([]*key, error) {
	if s.url == "" {
		return s.keys, nil
	}
	s.mu.Lock()
	age := time.Since(s.fetched)
	if s.keys != nil && age < s.refresh {
		keys := s.keys
		s.mu.Unlock()
		return keys, nil
	}
	var flight chan struct{}
	if s.flight != nil || s.failure == nil || time.Since(s.tried) >= retryPause {
		flight = s.fetch()
	}
	if s.keys != nil && age < min(2*s.refresh, s.maxAge) {
		flight = nil
	}
	s.mu.Unlock()
	if flight != nil {
		if err := await(ctx, flight); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil || time.Since(s.fetched) >= s.maxAge {
		return nil, fmt.Errorf("the key set is unavailable: %w", s.failure)
	}
	return s.keys, nil
}

// afterUnknown returns the keys after a token with an unknown key id: those of another fetch, unless there was one
// within the last minute.
func (s *keySet) afterUnknown(ctx context.Context) ([]*key, error) {
	if s.url == "" {
		return s.keys, nil
	}
	s.mu.Lock()
	var flight chan struct{}
	switch {
	case s.flight != nil:
		flight = s.flight
	case time.Since(s.unknown) >= unknownKeyPause:
		s.unknown = time.Now()
		flight = s.fetch()
	}
	s.mu.Unlock()
	if flight != nil {
		if err := await(ctx, flight); err != nil {
			return nil, err
		}
	}
	return s.current(ctx)
}

func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fetch begins a fetch unless one is in flight, and returns the channel that is closed at its end. s.mu is held. The
// fetch outlives the caller: others may wait for it.
func (s *keySet) fetch() chan struct{} {
	if s.flight != nil {
		return s.flight
	}
	flight := make(chan struct{})
	s.flight, s.tried = flight, time.Now()
	s.fetches++
	go func() {
		keys, err := s.load()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flight, s.failure = nil, err
		if err == nil {
			s.keys, s.fetched = keys, time.Now()
		} else {
			s.failed++
		}
		close(flight)
	}()
	return flight
}

// load requests the key set.
func (s *keySet) load() ([]*key, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	keys, _, _, err := s.download(ctx)
	return keys, err
}

// download requests the key set and returns the keys, the reasons for skipped ones, and the
// response's header Date.
func (s *keySet) download(ctx context.Context) (keys []*key, skipped []error, date string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, nil, "", fmt.Errorf("jwks: %w", err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", "edgerelay")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, nil, "", fmt.Errorf("jwks: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, "", fmt.Errorf("jwks: %s responded %d %s", s.shown, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetBytes+1))
	if err != nil {
		return nil, nil, "", fmt.Errorf("jwks: reading %s: %w", s.shown, err)
	}
	if len(text) > maxKeySetBytes {
		return nil, nil, "", fmt.Errorf("jwks: the response of %s is longer than %d bytes", s.shown, maxKeySetBytes)
	}
	keys, skipped, err = parseJWKS(text, false)
	if err != nil {
		return nil, skipped, "", fmt.Errorf("jwks: %s: %w", s.shown, err)
	}
	return keys, skipped, resp.Header.Get("Date"), nil
}

// succeed takes over the keys of the same address.
func (s *keySet) succeed(before *keySet) {
	if s.url == "" || s.url != before.url {
		return
	}
	before.mu.Lock()
	keys, fetched, unknown := before.keys, before.fetched, before.unknown
	before.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys, s.fetched, s.unknown = keys, fetched, unknown
	}
}

func (s *keySet) close() {
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
}
