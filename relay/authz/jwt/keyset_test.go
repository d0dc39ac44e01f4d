package jwt_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/jwt"
)

func remote(t testing.TB, i *issuer, change func(*jwt.Settings)) *jwt.Authorizer {
	return newAuthorizer(t, func(s *jwt.Settings) {
		s.Key, s.JWKS = "", i.URL
		if change != nil {
			change(s)
		}
	})
}

func tokenOf(t testing.TB, kid string, key any) string {
	return sign(t, "RS256", key, object{"kid": kid}, object{"sub": "7", "exp": in(time.Hour)})
}

// Handshakes that arrive together share one fetch, and later ones use its keys.
func TestKeySetIsFetchedOnce(t *testing.T) {
	k := testKeys()
	i := newIssuer(t)
	i.set(http.StatusOK, rsaJWK("a", &k.rsa.PublicKey))
	i.delay = make(chan struct{})
	a := remote(t, i, nil)
	token := tokenOf(t, "a", k.rsa)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := a.Authenticate(bearer(token)); err != nil {
				t.Error(err)
			}
		})
	}
	testkit.Eventually(t, "the fetch", func() bool { return i.fetched() == 1 })
	close(i.delay)
	all.Wait()
	identify(t, a, token)
	if n := i.fetched(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

// A token with an unknown key id fetches the keys again, but a flood of them does so once.
func TestRotation(t *testing.T) {
	k := testKeys()
	i := newIssuer(t)
	i.set(http.StatusOK, rsaJWK("a", &k.rsa.PublicKey))
	a := remote(t, i, nil)
	old := identify(t, a, tokenOf(t, "a", k.rsa))
	i.set(http.StatusOK, rsaJWK("b", &k.rsa2.PublicKey))
	identify(t, a, tokenOf(t, "b", k.rsa2))
	var all sync.WaitGroup
	for n := range 50 {
		all.Go(func() {
			_, err := a.Authenticate(bearer(tokenOf(t, fmt.Sprint("unknown", n), k.rsa2)))
			if !errors.Is(err, relay.ErrUnauthenticated) {
				t.Errorf("unknown key: %v", err)
			}
		})
	}
	all.Wait()
	if n := i.fetched(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
	if err := a.Recheck(t.Context(), old); !errors.Is(err, relay.ErrExpired) {
		t.Errorf("a login by a withdrawn key: %v", err)
	}
	if _, err := a.Authenticate(bearer(tokenOf(t, "a", k.rsa))); !errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("a token by a withdrawn key: %v", err)
	}
}

// While the address does not answer, the old keys count, until they are too old.
func TestOldKeysWhileTheIssuerIsDown(t *testing.T) {
	k := testKeys()
	i := newIssuer(t)
	i.set(http.StatusServiceUnavailable)
	const maxAge = 400 * time.Millisecond
	a := remote(t, i, func(s *jwt.Settings) { s.Refresh, s.MaxAge = time.Nanosecond, maxAge })
	token := tokenOf(t, "a", k.rsa)
	if _, err := a.Authenticate(bearer(token)); err == nil || errors.Is(err, relay.ErrUnauthenticated) {
		t.Fatalf("without keys: %v, want a failure that is no denial", err)
	}
	i.set(http.StatusOK, rsaJWK("a", &k.rsa.PublicKey))
	b := remote(t, i, func(s *jwt.Settings) { s.Refresh, s.MaxAge = time.Nanosecond, maxAge })
	began := time.Now()
	id := identify(t, b, token)
	i.set(http.StatusServiceUnavailable)
	for time.Since(began) < maxAge/2 {
		if _, err := b.Authenticate(bearer(token)); err != nil && time.Since(began) < maxAge {
			t.Fatalf("old keys after %v: %v", time.Since(began), err)
		}
	}
	testkit.Eventually(t, "the keys are too old", func() bool {
		_, err := b.Authenticate(bearer(token))
		return err != nil && !errors.Is(err, relay.ErrUnauthenticated)
	})
	if err := b.Recheck(t.Context(), id); err == nil || errors.Is(err, relay.ErrExpired) {
		t.Errorf("recheck without keys: %v, want a failure", err)
	}
}

// A reload keeps the keys of the same address.
func TestKeysSurviveReload(t *testing.T) {
	k := testKeys()
	i := newIssuer(t)
	i.set(http.StatusOK, rsaJWK("a", &k.rsa.PublicKey))
	before := remote(t, i, nil)
	token := tokenOf(t, "a", k.rsa)
	identify(t, before, token)
	i.set(http.StatusServiceUnavailable)
	after := remote(t, i, nil)
	after.Succeed(before)
	identify(t, after, token)
	if n := i.fetched(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

func TestKeySetIsBounded(t *testing.T) {
	k := testKeys()
	good := rsaJWK("a", &k.rsa.PublicKey)
	token := tokenOf(t, "a", k.rsa)
	many := make([]object, 257)
	for n := range many {
		many[n] = rsaJWK(fmt.Sprint(n), &k.rsa.PublicKey)
	}
	huge := rsaJWK("a", &k.rsa.PublicKey)
	huge["x"] = string(make([]byte, 600<<10))
	private := rsaJWK("a", &k.rsa.PublicKey)
	private["d"] = b64(k.rsa.D.Bytes())
	encryption := rsaJWK("a", &k.rsa.PublicKey)
	encryption["use"] = "enc"
	other := rsaJWK("a", &k.rsa.PublicKey)
	other["alg"] = "RS512"
	for name, c := range map[string]struct {
		keys []object
		ok   bool
	}{
		"others are skipped":    {[]object{{"kty": "what"}, {"kty": "RSA"}, good}, true},
		"none usable":           {[]object{{"kty": "what"}}, false},
		"no keys":               {nil, false},
		"too many":              {many, false},
		"too long":              {[]object{huge}, false},
		"private":               {[]object{private}, false},
		"for encryption":        {[]object{encryption}, false},
		"for another algorithm": {[]object{other}, false},
		"secret":                {[]object{{"kty": "oct", "kid": "a", "k": b64([]byte(secret))}}, false},
	} {
		i := newIssuer(t)
		i.set(http.StatusOK, c.keys...)
		if _, err := remote(t, i, nil).Authenticate(bearer(token)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
