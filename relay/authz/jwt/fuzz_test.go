package jwt_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/jwt"
)

// FuzzTokens feeds arbitrary tokens. Only a token with the signed parts of the valid one may log in.
func FuzzTokens(f *testing.F) {
	k := testKeys()
	valid := sign(f, "RS256", k.rsa, nil, object{"sub": "7", "exp": in(1000 * time.Hour)})
	parts := strings.Split(valid, ".")
	f.Add(valid)
	f.Add(parts[0] + "." + parts[1] + ".")
	f.Add("eyJhbGciOiJub25lIn0." + parts[1] + ".")
	f.Add("eyJhbGciOiJSUzI1NiIsImNyaXQiOlsiYjY0Il0sImI2NCI6ZmFsc2V9." + parts[1] + "." + parts[2])
	a := newAuthorizer(f, func(s *jwt.Settings) { s.Key = publicPEM(f, &k.rsa.PublicKey) })
	f.Fuzz(func(t *testing.T, token string) {
		id, err := a.AuthenticateToken(t.Context(), token)
		switch {
		case err == nil && (id.Key != "7" || !strings.HasPrefix(token, parts[0]+"."+parts[1]+".")):
			t.Errorf("%q is %+v", token, id)
		case err != nil && !errors.Is(err, relay.ErrUnauthenticated):
			t.Errorf("%q: %v", token, err)
		}
	})
}

// FuzzClaims feeds arbitrary claims with a valid signature.
func FuzzClaims(f *testing.F) {
	f.Add(`{"sub": "7", "exp": 9999999999, "groups": ["a*", 1, null, {}], "aud": [], "nbf": 1.5e3}`)
	f.Add(`{"sub": {"x": "7"}, "exp": 1e999}`)
	f.Add(`{"sub": 12345678901234567890, "exp": 9999999999}`)
	a := newAuthorizer(f, func(s *jwt.Settings) {
		s.GroupsClaim, s.Allow = "groups", []string{"x-{user.a.b}-*"}
	})
	f.Fuzz(func(t *testing.T, claims string) {
		id, err := a.AuthenticateToken(t.Context(), signRaw(t, "HS256", secret, object{"alg": "HS256"}, []byte(claims)))
		if err != nil {
			if !errors.Is(err, relay.ErrUnauthenticated) {
				t.Errorf("%q: %v", claims, err)
			}
			return
		}
		if id.Key == "" || id.ID == "" || !strings.HasPrefix(id.Profile, "{") {
			t.Errorf("%q is %+v", claims, id)
		}
		if err := a.Authorize(t.Context(), id, "x-"); err != nil && !errors.Is(err, relay.ErrDenied) {
			t.Errorf("%q: %v", claims, err)
		}
	})
}

// FuzzKeys feeds arbitrary keys. None may be accepted that makes a PEM text a secret.
func FuzzKeys(f *testing.F) {
	k := testKeys()
	f.Add(secret)
	f.Add(publicPEM(f, &k.rsa.PublicKey))
	f.Add(`{"keys": [{"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}`)
	f.Add(`{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}`)
	f.Fuzz(func(t *testing.T, text string) {
		s := jwt.DefaultSettings()
		s.Key = text
		s.Algorithms = []string{"HS256"}
		if _, err := jwt.NewAuthorizer(s); err == nil && (strings.Contains(text, "-----BEGIN") || len(text) < 32) {
			t.Errorf("%q is accepted as a secret", text)
		}
	})
}
