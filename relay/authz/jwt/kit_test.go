package jwt_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"hash"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/jwt"
)

// The tests sign with Go's crypto packages and not with the library that verifies.

// secret is long enough for HS512.
const secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// testKeys are made once: RSA keys are slow to make.
var testKeys = sync.OnceValue(func() (k struct {
	rsa, rsa2, small *rsa.PrivateKey
	p256, p384, p521 *ecdsa.PrivateKey
	ed               ed25519.PrivateKey
},
) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.rsa2, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.small, err = rsa.GenerateKey(rand.Reader, 1024)
	must(err)
	k.p256, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	k.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	k.p521, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	must(err)
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	return k
})

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// publicPEM returns a public key as PEM.
func publicPEM(t testing.TB, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// in is a time in seconds from now.
func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// object is a JSON object.
type object = map[string]any

// sign returns a token. The header "alg" selects the algorithm unless it is overridden in headers.
func sign(t testing.TB, algorithm string, key any, headers, claims object) string {
	t.Helper()
	h := object{"alg": algorithm, "typ": "JWT"}
	for name, value := range headers {
		h[name] = value
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return signRaw(t, algorithm, key, h, payload)
}

func signRaw(t testing.TB, algorithm string, key any, header object, payload []byte) string {
	t.Helper()
	head, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	input := b64(head) + "." + b64(payload)
	var sum []byte
	hashes := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
	which := hashes[algorithm[len(algorithm)-3:]]
	if which != 0 {
		h := which.New()
		h.Write([]byte(input))
		sum = h.Sum(nil)
	}
	var signature []byte
	switch algorithm[:2] {
	case "RS":
		signature, err = rsa.SignPKCS1v15(rand.Reader, key.(*rsa.PrivateKey), which, sum)
	case "PS":
		signature, err = rsa.SignPSS(rand.Reader, key.(*rsa.PrivateKey), which, sum, nil)
	case "ES":
		k := key.(*ecdsa.PrivateKey)
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, k, sum); err == nil {
			size := (k.Params().BitSize + 7) / 8
			signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	case "Ed":
		signature = ed25519.Sign(key.(ed25519.PrivateKey), []byte(input))
	case "HS":
		makers := map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}
		m := hmac.New(makers[algorithm], []byte(key.(string)))
		m.Write([]byte(input))
		signature = m.Sum(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(signature)
}

// newAuthorizer returns an authorizer with the default settings and a secret, changed by change.
func newAuthorizer(t testing.TB, change func(*jwt.Settings)) *jwt.Authorizer {
	t.Helper()
	s := jwt.DefaultSettings()
	s.Key, s.Allow = secret, []string{"user-{user}"}
	if change != nil {
		change(&s)
	}
	a, err := jwt.NewAuthorizer(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// bearer returns a handshake with a token.
func bearer(token string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/ws/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// issuer serves a key set.
type issuer struct {
	*httptest.Server
	mu      sync.Mutex
	keys    []object
	status  int
	fetches int
	delay   chan struct{} // not nil: responses wait for it
}

func newIssuer(t testing.TB) *issuer {
	i := &issuer{status: http.StatusOK}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		i.fetches++
		status, delay := i.status, i.delay
		body, _ := json.Marshal(object{"keys": i.keys})
		i.mu.Unlock()
		if delay != nil {
			<-delay
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) set(status int, keys ...object) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.status, i.keys = status, keys
}

func (i *issuer) fetched() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// rsaJWK returns a public RSA key as a JWK.
func rsaJWK(id string, public *rsa.PublicKey) object {
	return object{
		"kty": "RSA", "kid": id, "use": "sig", "n": b64(public.N.Bytes()),
		"e": b64(big.NewInt(int64(public.E)).Bytes()),
	}
}

// identify authenticates a token and fails the test if it is not valid.
func identify(t testing.TB, a relay.Authorizer, token string) relay.Identity {
	t.Helper()
	id, err := a.Authenticate(bearer(token))
	if err != nil {
		t.Fatal(err)
	}
	return id
}
