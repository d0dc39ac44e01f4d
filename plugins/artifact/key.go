package artifact

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Key is a public key that signatures are checked with.
type Key struct {
	// Name identifies the key in messages.
	Name   string
	Public ed25519.PublicKey
}

// Keys are the keys of which one must have signed a module.
type Keys []Key

// String returns the keys' names.
func (k Keys) String() string {
	names := make([]string, len(k))
	for i, key := range k {
		names[i] = key.Name
	}
	return strings.Join(names, ", ")
}

// ParsePublicKey reads an Ed25519 public key: PEM, the base64 text within a PEM file, or the base64 text of the key's
// 32 bytes.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	text = strings.TrimSpace(text)
	der := []byte(nil)
	if block, _ := pem.Decode([]byte(text)); block != nil {
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("the key is a %.40q; use the public key, which begins with BEGIN PUBLIC KEY", block.Type)
		}
		der = block.Bytes
	} else {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, errors.New("the key is not base64; use the line that 'caddy edgerelay plugin keygen' prints")
		}
		if len(raw) == ed25519.PublicKeySize {
			return raw, nil
		}
		der = raw
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, errors.New("the key is not a public key; use the line that 'caddy edgerelay plugin keygen' prints")
	}
	public, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the key is %T; use an Ed25519 key, as 'caddy edgerelay plugin keygen' makes", parsed)
	}
	return public, nil
}

// FormatPublicKey returns a public key as base64 on one line, as the configuration has it.
func FormatPublicKey(public ed25519.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	return base64.StdEncoding.EncodeToString(der), err
}

// GenerateKey returns a new pair of keys in PEM files, as OpenSSL writes them: PKCS #8 and PKIX.
func GenerateKey() (private, public []byte, err error) {
	publicKey, privateKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(privateKey)
	if err != nil {
		return nil, nil, err
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if der, err = x509.MarshalPKIXPublicKey(publicKey); err != nil {
		return nil, nil, err
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePrivateKey reads an Ed25519 private key in PEM, without a password.
func ParsePrivateKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("the key is not a PEM file; use the file .key that 'caddy edgerelay plugin keygen' writes")
	case strings.Contains(block.Type, "ENCRYPTED"):
		return nil, fmt.Errorf("the key is an %s; use a key without a password, "+
			"or sign the pushed artifact with 'cosign sign'", block.Type)
	case block.Type != "PRIVATE KEY":
		return nil, fmt.Errorf("the key is a %.40q; use the file .key that 'caddy edgerelay plugin keygen' writes", block.Type)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the key is not valid: %w", err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the key is %T; use an Ed25519 key, as 'caddy edgerelay plugin keygen' makes", parsed)
	}
	return private, nil
}
