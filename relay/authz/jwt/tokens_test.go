package jwt_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/jwt"
)

// Every algorithm works with its own type of key, and with no other.
func TestAlgorithmsAreConfinedToTheirKeys(t *testing.T) {
	k := testKeys()
	type signer struct {
		private, public any // public: PEM or secret
	}
	signers := map[string]signer{
		"rsa":    {k.rsa, publicPEM(t, &k.rsa.PublicKey)},
		"p256":   {k.p256, publicPEM(t, &k.p256.PublicKey)},
		"p384":   {k.p384, publicPEM(t, &k.p384.PublicKey)},
		"p521":   {k.p521, publicPEM(t, &k.p521.PublicKey)},
		"ed":     {k.ed, publicPEM(t, k.ed.Public())},
		"secret": {secret, secret},
	}
	fits := map[string]string{
		"RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa", "PS512": "rsa",
		"ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed",
		"HS256": "secret", "HS384": "secret", "HS512": "secret",
	}
	for algorithm, with := range fits {
		token := sign(t, algorithm, signers[with].private, nil, object{"sub": "7", "exp": in(time.Hour)})
		for name, s := range signers {
			a := newAuthorizer(t, func(set *jwt.Settings) { set.Key = s.public.(string) })
			_, err := a.Authenticate(bearer(token))
			if ok := err == nil; ok != (name == with) {
				t.Errorf("%s with the key %s: %v", algorithm, name, err)
			}
			if err != nil && !errors.Is(err, relay.ErrUnauthenticated) {
				t.Errorf("%s with the key %s: %v, want ErrUnauthenticated", algorithm, name, err)
			}
		}
	}
}

// hostile are tokens that must not log in any user. The authorizer has an RSA key in PEM form.
func TestHostileTokens(t *testing.T) {
	k := testKeys()
	pem := publicPEM(t, &k.rsa.PublicKey)
	good := object{"sub": "7", "exp": in(time.Hour)}
	valid := sign(t, "RS256", k.rsa, nil, good)
	parts := strings.Split(valid, ".")
	claims := func(change func(object)) string {
		c := object{"sub": "7", "exp": in(time.Hour)}
		change(c)
		return sign(t, "RS256", k.rsa, nil, c)
	}
	header := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	for name, token := range map[string]string{
		"none":                  header(`{"alg":"none"}`) + "." + parts[1] + ".",
		"none with a signature": header(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2],
		"None":                  header(`{"alg":"None"}`) + "." + parts[1] + ".",
		"no algorithm":          header(`{}`) + "." + parts[1] + "." + parts[2],
		"two algorithms":        header(`{"alg":"RS256","alg":"HS256"}`) + "." + parts[1] + "." + parts[2],
		"algorithm is a number": header(`{"alg":1}`) + "." + parts[1] + "." + parts[2],
		"HS256 with the PEM":    sign(t, "HS256", pem, nil, good),
		"HS256, PEM trimmed":    sign(t, "HS256", strings.TrimSpace(pem), nil, good),
		"HS256 with the DER":    sign(t, "HS256", strings.Join(strings.Split(pem, "\n")[1:8], ""), nil, good),
		"HS512 with the PEM":    sign(t, "HS512", pem, nil, good),
		"ES256":                 sign(t, "ES256", k.p256, nil, good),
		"EdDSA":                 sign(t, "EdDSA", k.ed, nil, good),
		"another key":           sign(t, "RS256", k.rsa2, nil, good),
		"own key in the header": sign(t, "RS256", k.rsa2, object{"jwk": rsaJWK("", &k.rsa2.PublicKey)}, good),
		"own key set":           sign(t, "RS256", k.rsa2, object{"jku": "http://127.0.0.1/"}, good),
		"crit":                  sign(t, "RS256", k.rsa, object{"crit": []string{"x"}, "x": 1}, good),
		"crit b64":              sign(t, "RS256", k.rsa, object{"crit": []string{"b64"}, "b64": false}, good),
		"b64 without crit":      sign(t, "RS256", k.rsa, object{"b64": false}, good),
		"empty crit":            sign(t, "RS256", k.rsa, object{"crit": []string{}}, good),
		"empty":                 "x",
		"dots":                  "..",
		"two parts":             parts[0] + "." + parts[1],
		"four parts":            valid + ".x",
		"five parts (JWE)":      valid + ".x.y",
		"no signature":          parts[0] + "." + parts[1] + ".",
		"other payload":         parts[0] + "." + header(`{"sub":"8","exp":9999999999}`) + "." + parts[2],
		"padded":                parts[0] + "=." + parts[1] + "." + parts[2],
		"spaces":                parts[0] + " ." + parts[1] + "." + parts[2],
		"too long":              sign(t, "RS256", k.rsa, nil, object{"sub": "7", "exp": in(time.Hour), "x": strings.Repeat("x", 20000)}),
		"payload is a list":     signRaw(t, "RS256", k.rsa, object{"alg": "RS256"}, []byte(`[1]`)),
		"payload is null":       signRaw(t, "RS256", k.rsa, object{"alg": "RS256"}, []byte(`null`)),
		"payload is two values": signRaw(t, "RS256", k.rsa, object{"alg": "RS256"}, []byte(`{"sub":"7","exp":9999999999}{}`)),
		"payload is text":       signRaw(t, "RS256", k.rsa, object{"alg": "RS256"}, []byte(`x`)),
		"expired":               claims(func(c object) { c["exp"] = in(-time.Minute) }),
		"no exp":                claims(func(c object) { delete(c, "exp") }),
		"exp is text":           claims(func(c object) { c["exp"] = "9999999999" }),
		"exp is null":           claims(func(c object) { c["exp"] = nil }),
		"exp in milliseconds":   claims(func(c object) { c["exp"] = in(time.Hour) * 1000 }),
		"exp is huge":           claims(func(c object) { c["exp"] = 1e300 }),
		"exp is negative":       claims(func(c object) { c["exp"] = -1 }),
		"not yet":               claims(func(c object) { c["nbf"] = in(time.Minute) }),
		"nbf is text":           claims(func(c object) { c["nbf"] = "0" }),
		"issued in the future":  claims(func(c object) { c["iat"] = in(time.Minute) }),
		"for an audience":       claims(func(c object) { c["aud"] = "other" }),
		"audience is a number":  claims(func(c object) { c["aud"] = 1 }),
		"audiences with number": claims(func(c object) { c["aud"] = []any{"a", 1} }),
		"no user":               claims(func(c object) { delete(c, "sub") }),
		"empty user":            claims(func(c object) { c["sub"] = "" }),
		"user is null":          claims(func(c object) { c["sub"] = nil }),
		"user is an object":     claims(func(c object) { c["sub"] = object{} }),
		"two users":             claims(func(c object) { c["sub"] = []string{"7", "8"} }),
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuthorizer(t, func(s *jwt.Settings) { s.Key = pem })
			id, err := a.Authenticate(bearer(token))
			if !errors.Is(err, relay.ErrUnauthenticated) {
				t.Errorf("got %+v, %v; want ErrUnauthenticated", id, err)
			}
			if err != nil && len(token) > 40 && strings.Contains(err.Error(), token[20:40]) {
				t.Errorf("the error repeats the token: %v", err)
			}
		})
	}
	a := newAuthorizer(t, func(s *jwt.Settings) { s.Key = pem })
	if _, err := a.Authenticate(bearer(valid)); err != nil {
		t.Fatalf("the valid token: %v", err)
	}
}

func TestClaimsOfIssuerAndAudience(t *testing.T) {
	a := newAuthorizer(t, func(s *jwt.Settings) {
		s.Audiences, s.Issuers = []string{"shop", "blog"}, []string{"https://id.example.com"}
	})
	for name, c := range map[string]struct {
		iss, aud any
		ok       bool
	}{
		"both":                {"https://id.example.com", "shop", true},
		"list":                {"https://id.example.com", []string{"x", "blog"}, true},
		"other issuer":        {"https://id.example.com/", "shop", false},
		"no issuer":           {nil, "shop", false},
		"issuer is a list":    {[]string{"https://id.example.com"}, "shop", false},
		"other audience":      {"https://id.example.com", "shops", false},
		"no audience":         {"https://id.example.com", nil, false},
		"empty list":          {"https://id.example.com", []string{}, false},
		"part of an audience": {"https://id.example.com", "sho", false},
	} {
		claims := object{"sub": "7", "exp": in(time.Hour)}
		if c.iss != nil {
			claims["iss"] = c.iss
		}
		if c.aud != nil {
			claims["aud"] = c.aud
		}
		if _, err := a.Authenticate(bearer(sign(t, "HS256", secret, nil, claims))); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvalidSettings(t *testing.T) {
	k := testKeys()
	pem := publicPEM(t, &k.rsa.PublicKey)
	body := strings.Join(strings.Split(strings.TrimSpace(pem), "\n")[1:8], "\n")
	for name, c := range map[string]struct {
		change func(*jwt.Settings)
		want   string
	}{
		"no key":            {func(s *jwt.Settings) { s.Key = "" }, "either jwks or a key"},
		"both":              {func(s *jwt.Settings) { s.JWKS = "https://x/" }, "key and jwks are both given; remove one"},
		"short secret":      {func(s *jwt.Settings) { s.Key = "short" }, "too short"},
		"private key":       {func(s *jwt.Settings) { s.Key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" }, "no public key"},
		"torn PEM":          {func(s *jwt.Settings) { s.Key = strings.ReplaceAll(pem, "\n", " ") }, "malformed"},
		"bare base64":       {func(s *jwt.Settings) { s.Key = body }, "BEGIN and END"},
		"SSH key":           {func(s *jwt.Settings) { s.Key = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ x@y" }, "PEM"},
		"small RSA key":     {func(s *jwt.Settings) { s.Key = publicPEM(t, &k.small.PublicKey) }, "too short"},
		"HS with PEM":       {func(s *jwt.Settings) { s.Key, s.Algorithms = pem, []string{"HS256"} }, "HS needs a secret"},
		"HS and RS":         {func(s *jwt.Settings) { s.Key, s.Algorithms = pem, []string{"RS256", "HS256"} }, "HS needs a secret"},
		"RS with a secret":  {func(s *jwt.Settings) { s.Algorithms = []string{"RS256"} }, "no key verifies"},
		"HS with a key set": {func(s *jwt.Settings) { s.Key, s.JWKS, s.Algorithms = "", "https://x/", []string{"HS256"} }, "needs a secret"},
		"none":              {func(s *jwt.Settings) { s.Algorithms = []string{"none"} }, "unknown algorithm"},
		"HS512, 50 bytes":   {func(s *jwt.Settings) { s.Key, s.Algorithms = secret[:50], []string{"HS512"} }, "as many bytes"},
		"leeway":            {func(s *jwt.Settings) { s.Leeway = 2 * time.Minute }, "at most 1m"},
		"jwks":              {func(s *jwt.Settings) { s.Key, s.JWKS = "", "id.example.com" }, "invalid url"},
		"allow":             {func(s *jwt.Settings) { s.Allow = []string{"a{b"} }, "malformed"},
		"placeholder":       {func(s *jwt.Settings) { s.Allow = []string{"a{sub}"} }, "{user.<claim>}"},
	} {
		t.Run(name, func(t *testing.T) {
			s := jwt.DefaultSettings()
			s.Key = secret
			c.change(&s)
			_, err := jwt.NewAuthorizer(s)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && len(s.Key) > 30 && strings.Contains(err.Error(), s.Key[20:30]) {
				t.Errorf("the error repeats the key: %v", err)
			}
		})
	}
}
