package webhttp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// ParseKey returns the bytes of a key: of base64 after "base64:", as the URIs of GRIP's libraries write binary keys, or
// the text itself.
func ParseKey(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(text, "base64:")
	if !ok {
		return []byte(text), nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New("the key after base64: is not base64; encode its bytes, or write the key as plain text")
	}
	return key, nil
}

// tokenHeader is the header of the tokens that sign makes.
var tokenHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

// claims are the claims of a token (RFC 7519) that GRIP uses.
type claims struct {
	Issuer   string `json:"iss,omitempty"`
	Audience any    `json:"aud,omitempty"`
	Expires  int64  `json:"exp"`
}

// sign returns a token with claims, signed by HMAC-SHA256 (RFC 7515, RFC 7518 section 3.2).
func (c claims) sign(key []byte) string {
	payload, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and numbers always have an encoding
	}
	signed := tokenHeader + "." + base64.RawURLEncoding.EncodeToString(payload)
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac(key, signed))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

var errToken = errors.New("invalid token; sign it by HS256 with the key, and let it expire in the future")

// unsigned is a token whose signature has not been checked.
type unsigned struct {
	signed    string
	signature []byte
	issuer    string
	expires   float64
}

// parseToken parses a token of HS256. Tokens of any other algorithm are errors, among them those without a signature.
func parseToken(token string) (u unsigned, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return u, errToken
	}
	var head struct {
		Algorithm string   `json:"alg"`
		Critical  []string `json:"crit"`
	}
	var body struct {
		Issuer  string   `json:"iss"`
		Expires *float64 `json:"exp"`
		Before  float64  `json:"nbf"`
	}
	for i, to := range []any{&head, &body} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(b, to) != nil {
			return u, errToken
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || head.Algorithm != "HS256" || head.Critical != nil || body.Expires == nil {
		return u, errToken
	}
	return unsigned{parts[0] + "." + parts[1], signature, body.Issuer, *body.Expires}, nil
}

// verify checks the signature and the lifetime.
func (u *unsigned) verify(key []byte, now time.Time) error {
	if len(key) == 0 || !hmac.Equal(mac(key, u.signed), u.signature) || float64(now.Unix()) >= u.expires {
		return errToken
	}
	return nil
}
