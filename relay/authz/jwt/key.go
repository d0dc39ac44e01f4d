package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	// minSecret is the fewest bytes of a secret: as many as the hash of HS256 (RFC 7518 section 3.2).
	minSecret = 32
	// minRSABits is the fewest bits of an RSA key (RFC 7518 section 3.3).
	minRSABits = 2048
	// maxKeys bounds the keys of a set.
	maxKeys = 256
)

// key is a key with the algorithms that it verifies. A key never verifies an algorithm of another type: a public key as
// the secret of HS256 would let everybody sign tokens.
// See docs/decisions/protocol-and-authz.md#why-does-go-jose-check-tokens
type key struct {
	id         string // "kid", or empty
	algorithms []string
	public     any // of a type that go-jose verifies by
	// print identifies the key across fetches and configurations.
	print [sha256.Size]byte
}

// verifies reports whether the key verifies an algorithm.
func (k *key) verifies(algorithm string) bool {
	for _, a := range k.algorithms {
		if a == algorithm {
			return true
		}
	}
	return false
}

// newKey returns the key for a public key or a secret. A non-empty algorithm, the key's "alg", is the only one.
func newKey(id, algorithm string, public any) (*key, error) {
	k := &key{id: id, public: public}
	var encoded []byte
	var err error
	switch p := public.(type) {
	case *rsa.PublicKey:
		if p.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits is too short; use %d bits or more", p.N.BitLen(), minRSABits)
		}
		k.algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			k.algorithms = []string{"ES256"}
		case elliptic.P384():
			k.algorithms = []string{"ES384"}
		case elliptic.P521():
			k.algorithms = []string{"ES512"}
		default:
			return nil, errors.New("the curve of the key is not supported; use P-256, P-384 or P-521")
		}
	case ed25519.PublicKey:
		k.algorithms = []string{"EdDSA"}
	case []byte:
		if len(p) < minSecret {
			return nil, fmt.Errorf("a secret of %d bytes is too short; use %d random bytes or more", len(p), minSecret)
		}
		for bits, name := range map[int]string{256: "HS256", 384: "HS384", 512: "HS512"} {
			if len(p)*8 >= bits { // RFC 7518 section 3.2
				k.algorithms = append(k.algorithms, name)
			}
		}
		encoded = append([]byte("secret\x00"), p...)
	default:
		return nil, fmt.Errorf("a key of the type %T is not supported; use RSA, ECDSA, Ed25519 or a secret", public)
	}
	if algorithm != "" {
		if !k.verifies(algorithm) {
			return nil, fmt.Errorf("the algorithm %.20q does not fit the key, which verifies %s", algorithm,
				strings.Join(k.algorithms, ", "))
		}
		k.algorithms = []string{algorithm}
	}
	if encoded == nil {
		if encoded, err = x509.MarshalPKIXPublicKey(public); err != nil {
			return nil, fmt.Errorf("encoding the key: %w", err)
		}
	}
	k.print = sha256.Sum256(encoded)
	return k, nil
}

// parseKeys reads the keys of a setting: PEM, a JSON Web Key or Key Set, or a secret. Errors do not repeat the text.
func parseKeys(text string) ([]*key, error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.Contains(text, "-----BEGIN"):
		return parsePEM([]byte(text))
	case strings.HasPrefix(trimmed, "{") && json.Valid([]byte(trimmed)):
		set, _, err := parseJWKS([]byte(trimmed), true)
		return set, err
	case strings.HasPrefix(text, "ssh-"), strings.HasPrefix(text, "ecdsa-"):
		return nil, errors.New("the key is in the format of SSH; write it as PEM, for example with ssh-keygen -e -m PKCS8")
	case isBareKey(trimmed):
		return nil, errors.New("the key is a public key without its lines BEGIN and END; write the whole PEM block, " +
			"since anybody could sign tokens with a public key as the secret")
	}
	k, err := newKey("", "", []byte(text))
	if err != nil {
		return nil, err
	}
	return []*key{k}, nil
}

// isBareKey reports whether a text is the base64 of a key, as in a PEM block.
func isBareKey(text string) bool {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return false
	}
	if _, err := x509.ParsePKIXPublicKey(der); err == nil {
		return true
	}
	if _, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return true
	}
	_, err = x509.ParseCertificate(der)
	return err == nil
}

// parsePEM reads public keys and certificates.
func parsePEM(text []byte) (keys []*key, err error) {
	for len(bytes.TrimSpace(text)) > 0 {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("the PEM block is malformed; write it with its line breaks, or use key_file")
		}
		var public any
		switch block.Type {
		case "PUBLIC KEY":
			public, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			public, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				public = c.PublicKey
			}
		default:
			return nil, fmt.Errorf("a PEM block of the type %q is no public key; write the public key, "+
				"and keep a private key with the issuer", block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the PEM block %s: %w", block.Type, err)
		}
		k, err := newKey("", "", public)
		if err != nil {
			return nil, err
		}
		if keys = append(keys, k); len(keys) > maxKeys {
			return nil, fmt.Errorf("more than %d keys; remove old ones", maxKeys)
		}
	}
	return keys, nil
}

// parseJWKS reads a key set, or a single key. Keys that are for another use, of an unknown type or not valid are
// skipped, as RFC 7517 section 5 demands. Secrets count only if allowSecrets is set.
func parseJWKS(text []byte, allowSecrets bool) (keys []*key, skipped []error, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
		Kty  string            `json:"kty"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, nil, fmt.Errorf("parsing the key set: %w", err)
	}
	if set.Kty != "" && set.Keys == nil {
		set.Keys = []json.RawMessage{text}
	}
	if len(set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("the key set has %d keys; at most %d are allowed", len(set.Keys), maxKeys)
	}
	for _, raw := range set.Keys {
		k, err := parseJWK(raw, allowSecrets)
		if err != nil {
			skipped = append(skipped, err)
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, skipped, fmt.Errorf("the key set has no usable key: %w", errors.Join(skipped...))
	}
	return keys, skipped, nil
}

func parseJWK(raw []byte, allowSecrets bool) (*key, error) {
	var j jose.JSONWebKey
	if err := j.UnmarshalJSON(padCoordinates(raw)); err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	if j.Use != "" && j.Use != "sig" {
		return nil, fmt.Errorf("key %.40q is for the use %.20q, not for signatures", j.KeyID, j.Use)
	}
	public := j.Key
	switch p := public.(type) {
	case []byte:
		if !allowSecrets {
			return nil, fmt.Errorf("key %.40q is a secret, which must not be published", j.KeyID)
		}
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
	case crypto.Signer:
		_ = p
		return nil, fmt.Errorf("key %.40q is a private key, which must not be published", j.KeyID)
	}
	k, err := newKey(j.KeyID, j.Algorithm, public)
	if err != nil {
		return nil, fmt.Errorf("key %.40q: %w", j.KeyID, err)
	}
	return k, nil
}

// padCoordinates gives the coordinates of an elliptic curve's key the length that RFC 7518 section 6.2.1.2 requires.
// Some issuers, such as PyJWT 2.6, leave out leading zeros, and one key in 128 has some. Anything else stays as it is.
func padCoordinates(raw []byte) []byte {
	var head struct{ Kty, Crv string }
	if json.Unmarshal(raw, &head) != nil || head.Kty != "EC" {
		return raw
	}
	size := map[string]int{"P-256": 32, "P-384": 48, "P-521": 66}[head.Crv]
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return raw
	}
	for _, name := range []string{"x", "y"} {
		var text string
		if json.Unmarshal(members[name], &text) != nil {
			return raw
		}
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
		if err != nil || len(b) >= size {
			continue
		}
		text = base64.RawURLEncoding.EncodeToString(append(make([]byte, size-len(b)), b...))
		members[name] = json.RawMessage(`"` + text + `"`)
	}
	padded, err := json.Marshal(members)
	if err != nil {
		return raw
	}
	return padded
}
