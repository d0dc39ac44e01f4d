package jwt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"testing"
)

// Keys without the leading zeros of a coordinate, as PyJWT 2.6 publishes them, are read.
func TestShortCoordinates(t *testing.T) {
	short := 0
	for range 10_000 {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := private.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		x, y := point[1:33], point[33:]
		if x[0] != 0 && y[0] != 0 {
			continue
		}
		short++
		trimmed := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(bytes.TrimLeft(b, "\x00")) }
		raw := fmt.Sprintf(`{"kty": "EC", "crv": "P-256", "kid": "a", "x": %q, "y": %q}`, trimmed(x), trimmed(y))
		if _, err := parseJWK([]byte(raw), false); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if short == 5 {
			return
		}
	}
	t.Fatal("no key has a short coordinate")
}
