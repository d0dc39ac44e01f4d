package jwt

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/edgerelay/edgerelay/relay"
)

// maxToken is the length of the longest token in bytes. Web servers accept no longer headers.
const maxToken = 16 << 10

// allAlgorithms are the algorithms that keys can verify. "none" is not an algorithm here.
var allAlgorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512,
	jose.EdDSA, jose.HS256, jose.HS384, jose.HS512,
}

// invalid is the error for a token that does not count. The reason is for logs and must not contain the token.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: the token is not valid: "+format, append([]any{relay.ErrUnauthenticated}, args...)...)
}

// parse checks the form of a token, and returns the header's algorithm and key id.
func (a *Authorizer) parse(token string) (signed *jose.JSONWebSignature, algorithm, keyID string, err error) {
	if len(token) > maxToken {
		return nil, "", "", invalid("it is longer than %d bytes", maxToken)
	}
	first, rest, _ := strings.Cut(token, ".")
	if strings.Count(rest, ".") != 1 {
		return nil, "", "", invalid("it has not the three parts of a signed token")
	}
	text, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil {
		return nil, "", "", invalid("its header is not base64")
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(text, &header); err != nil {
		return nil, "", "", invalid("its header is not a JSON object")
	}
	for _, name := range []string{"crit", "b64"} { // no extension is understood; RFC 7797 section 7 forbids b64 in a JWT
		if _, ok := header[name]; ok {
			return nil, "", "", invalid("its header demands an extension, which is not supported")
		}
	}
	signed, err = jose.ParseSignedCompact(token, a.algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, "", "", invalid("it is malformed, or its algorithm %.20q is not accepted", header["alg"])
	}
	h := signed.Signatures[0].Protected
	return signed, h.Algorithm, h.KeyID, nil
}

// verify checks a token's signature and returns its payload, and the key. An error other than
// [relay.ErrUnauthenticated] means that there are no keys at the moment.
func (a *Authorizer) verify(ctx context.Context, token string) (payload []byte, by *key, err error) {
	signed, algorithm, keyID, err := a.parse(token)
	if err != nil {
		return nil, nil, err
	}
	keys, err := a.keys.current(ctx)
	if err != nil {
		return nil, nil, err
	}
	known := slices.ContainsFunc(keys, func(k *key) bool { return k.id == keyID || k.id == "" })
	if keyID != "" && !known {
		if keys, err = a.keys.afterUnknown(ctx); err != nil {
			return nil, nil, err
		}
	}
	fits := false
	for _, k := range keys {
		if keyID != "" && k.id != "" && k.id != keyID || !k.verifies(algorithm) {
			continue
		}
		fits = true
		if payload, err := signed.Verify(k.public); err == nil {
			return payload, k, nil
		}
	}
	if !fits {
		return nil, nil, invalid("there is no key %.40q for the algorithm %.20q", keyID, algorithm)
	}
	return nil, nil, invalid("its signature is wrong")
}

// decodeClaims reads a payload, with numbers as they are written.
func decodeClaims(payload string) (claims map[string]any, err error) {
	dec := json.NewDecoder(strings.NewReader(payload))
	dec.UseNumber()
	if err := dec.Decode(&claims); err != nil || claims == nil {
		return nil, invalid("its claims are not a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid("its claims are not a JSON object")
	}
	return claims, nil
}

// maxTime bounds times in claims, in Unix seconds, at the year 5138. A greater number is in milliseconds.
const maxTime = 100_000_000_000

// timeClaim returns a claim that is a time (RFC 7519 section 2, NumericDate), and the zero time if there is none.
func timeClaim(claims map[string]any, name string) (time.Time, error) {
	value, ok := claims[name]
	if !ok {
		return time.Time{}, nil
	}
	number, ok := value.(json.Number)
	if !ok {
		return time.Time{}, invalid("its claim %s is not a number", name)
	}
	seconds, err := number.Float64()
	if err != nil || !(seconds > 0 && seconds < maxTime) {
		return time.Time{}, invalid("its claim %s is not a time in Unix seconds", name)
	}
	return time.Unix(int64(seconds), 0), nil
}

// textsOf returns the texts of a claim that is a text or a list of texts.
func textsOf(value any) (texts []string, ok bool) {
	switch v := value.(type) {
	case nil:
		return nil, true
	case string:
		return []string{v}, true
	case []any:
		for _, element := range v {
			text, ok := element.(string)
			if !ok {
				return nil, false
			}
			texts = append(texts, text)
		}
		return texts, true
	}
	return nil, false
}

// checkClaims checks the claims of RFC 7519 section 4.1, and returns the time at which the token ends, leeway included;
// zero for an endless token.
func (a *Authorizer) checkClaims(claims map[string]any, now time.Time) (until time.Time, err error) {
	s := &a.settings
	expires, err := timeClaim(claims, "exp")
	if err != nil {
		return until, err
	}
	switch {
	case expires.IsZero() && !s.Endless:
		return until, invalid("it has no exp; let it expire, or set endless on")
	case !expires.IsZero():
		if until = expires.Add(s.Leeway); !now.Before(until) {
			return until, invalid("it expired at %s", expires.UTC().Format(time.RFC3339))
		}
	}
	for _, name := range []string{"nbf", "iat"} {
		at, err := timeClaim(claims, name)
		if err != nil {
			return until, err
		}
		if at.After(now.Add(s.Leeway)) {
			return until, invalid("its claim %s is %s, which is in the future; compare the clocks", name,
				at.UTC().Format(time.RFC3339))
		}
	}
	if len(s.Issuers) > 0 {
		issuer, _ := claims["iss"].(string)
		if !slices.Contains(s.Issuers, issuer) {
			return until, invalid("its issuer %.100q is not accepted", issuer)
		}
	}
	audiences, ok := textsOf(claims["aud"])
	switch {
	case !ok:
		return until, invalid("its claim aud is neither a text nor a list of texts")
	case len(s.Audiences) == 0 && len(audiences) > 0:
		return until, invalid("it is for the audience %.100q; set audience", audiences)
	case len(s.Audiences) > 0 && !slices.ContainsFunc(audiences, func(one string) bool {
		return slices.Contains(s.Audiences, one)
	}):
		return until, invalid("its audience %.100q is not accepted", audiences)
	}
	return until, nil
}

// compact returns a payload as a JSON object without spaces around it.
func compact(payload []byte) string { return string(bytes.TrimSpace(payload)) }
