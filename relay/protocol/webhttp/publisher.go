package webhttp

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"
	"time"
)

// Key is the key of a publisher.
type Key struct {
	// Name is the issuer of its tokens, and the user of Basic authentication.
	Name string
	// Secret signs its tokens, and is the password and the static token.
	Secret []byte
}

// ErrPublisher means that a publisher has not authenticated.
var ErrPublisher = errors.New("publisher not authenticated; send Authorization: Bearer with a token by HS256 or the key " +
	"itself, or Basic with the key's name and secret")

// AuthenticatePublisher returns the index of the key with which a request to publish is authenticated, by its header
// Authorization. It accepts what GRIP's client libraries send: Bearer with a JWT whose issuer is the key's name, Bearer
// with the secret itself, and Basic with name and secret. The comparison of secrets takes the same time for all wrong
// ones. A token without an issuer may be signed by any key.
func AuthenticatePublisher(authorization string, keys []Key, now time.Time) (index int, err error) {
	scheme, value, _ := strings.Cut(authorization, " ")
	value = strings.TrimSpace(value)
	switch {
	case value == "":
		return -1, ErrPublisher
	case strings.EqualFold(scheme, "Basic"):
		return findBasic(value, keys)
	case !strings.EqualFold(scheme, "Bearer"):
		return -1, ErrPublisher
	}
	if i := findKey(keys, func(k *Key) bool { return equalSecret([]byte(value), k.Secret) }); i >= 0 {
		return i, nil
	}
	token, err := parseToken(value)
	if err != nil {
		return -1, ErrPublisher
	}
	i := findKey(keys, func(k *Key) bool {
		return (token.issuer == "" || token.issuer == k.Name) && token.verify(k.Secret, now) == nil
	})
	if i < 0 {
		return -1, ErrPublisher
	}
	return i, nil
}

// findBasic finds the key of Basic authentication. pubcontrol on Python 3 sends the value as the text of a bytes
// literal, b'…'.
func findBasic(value string, keys []Key) (int, error) {
	if literal, ok := strings.CutPrefix(value, "b'"); ok {
		value = strings.TrimSuffix(literal, "'")
	}
	decoded, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return -1, ErrPublisher
	}
	name, secret, _ := strings.Cut(string(decoded), ":")
	i := findKey(keys, func(k *Key) bool { return k.Name == name && equalSecret([]byte(secret), k.Secret) })
	if i < 0 {
		return -1, ErrPublisher
	}
	return i, nil
}

// findKey returns the index of the first key that matches, -1 if none does.
func findKey(keys []Key, matches func(*Key) bool) int {
	found := -1
	for i := range keys {
		if matches(&keys[i]) && found < 0 {
			found = i
		}
	}
	return found
}

func equalSecret(a, b []byte) bool {
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	return len(b) > 0 && subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
