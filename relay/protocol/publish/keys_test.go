package publish

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// token signs claims with HS256.
func token(header, claims, secret string) string {
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestAuthenticate(t *testing.T) {
	keys, err := NewKeys(
		mustKey(t, KeySettings{Name: "shop", Secrets: []string{"current", "former"}, Groups: []string{"*"}}),
		mustKey(t, KeySettings{Name: "grip", Secrets: []string{"base64:" + base64.StdEncoding.EncodeToString([]byte("raw"))}, Groups: []string{"*"}}),
	)
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{at: time.Unix(1_000_000, 0)}
	keys.now = c.now
	const hs256, valid = `{"alg":"HS256","typ":"JWT"}`, `{"iss":"shop","exp":1000060}`
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for _, x := range []struct{ name, header, want string }{
		{"current secret", "Bearer current", "shop"},
		{"former secret", "bearer former", "shop"},
		{"wrong secret", "Bearer curren", ""},
		{"empty", "Bearer ", ""},
		{"scheme alone", "Bearer", ""},
		{"basic", basic("shop:former"), "shop"},
		{"basic with another name", basic("grip:current"), ""},
		{"basic with a wrong secret", basic("shop:x"), ""},
		{"basic without a secret", basic("shop"), ""},
		{"basic that is no base64", "Basic x", ""},
		{"token", "Bearer " + token(hs256, valid, "current"), "shop"},
		{"token of a former secret", "Bearer " + token(hs256, valid, "former"), "shop"},
		{"token without an issuer", "Bearer " + token(hs256, `{"exp":1000060}`, "raw"), "grip"},
		{"token of another key", "Bearer " + token(hs256, valid, "raw"), ""},
		{"token of an unknown issuer", "Bearer " + token(hs256, `{"iss":"x","exp":1000060}`, "current"), ""},
		{"token without exp", "Bearer " + token(hs256, `{"iss":"shop"}`, "current"), ""},
		{"expired token", "Bearer " + token(hs256, `{"iss":"shop","exp":1000000}`, "current"), ""},
		{"token without a signature", "Bearer " + strings.TrimSuffix(token(`{"alg":"none"}`, valid, "current"), "x"), ""},
		{"token of another algorithm", "Bearer " + token(`{"alg":"HS512"}`, valid, "current"), ""},
		{"token with a critical extension", "Bearer " + token(`{"alg":"HS256","crit":["x"]}`, valid, "current"), ""},
		{"token whose claims are no JSON", "Bearer " + token(hs256, `x`, "current"), ""},
		{"dots", "Bearer ..", ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", nil)
			r.Header.Set("Authorization", x.header)
			key, err := keys.authenticate(r)
			got := ""
			if err == nil {
				got = key.Name()
			}
			if got != x.want {
				t.Errorf("%s: key %q (%v), want %q", x.header, got, err, x.want)
			}
		})
	}
	r := httptest.NewRequest("POST", "/", nil)
	r.Header["Authorization"] = []string{"Bearer current", "Bearer current"}
	if _, err := keys.authenticate(r); err == nil {
		t.Error("two headers are accepted")
	}
}

func TestInvalidKeys(t *testing.T) {
	valid := func() KeySettings {
		return KeySettings{Name: "k", Secrets: []string{"s"}, Groups: []string{"*"}}
	}
	for name, c := range map[string]struct {
		change func(s *KeySettings)
		want   string
	}{
		"no name":         {func(s *KeySettings) { s.Name = "" }, "invalid name"},
		"name with space": {func(s *KeySettings) { s.Name = "a b" }, "invalid name"},
		"no groups":       {func(s *KeySettings) { s.Groups = nil }, "add groups"},
		"bad pattern":     {func(s *KeySettings) { s.Groups = []string{"["} }, "invalid pattern"},
		"placeholder":     {func(s *KeySettings) { s.Groups = []string{"{env.GROUPS}"} }, "without placeholders"},
		"in types":        {func(s *KeySettings) { s.Types = []string{"{env.TYPES}"} }, "without placeholders"},
		"no secret":       {func(s *KeySettings) { s.Secrets = nil }, "no secret"},
		"negative rate":   {func(s *KeySettings) { s.Rate = -1 }, "rate -1 or burst 0 is invalid; use numbers above 0"},
		"negative burst":  {func(s *KeySettings) { s.Rate, s.Burst = 5, -1 }, "rate 5 or burst -1 is invalid"},
		"empty secret":    {func(s *KeySettings) { s.Secrets = []string{"s", ""} }, "empty"},
	} {
		s := valid()
		c.change(&s)
		if _, err := NewKey(s, &Counters{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	other := valid()
	other.Name = "l"
	for _, list := range [][]KeySettings{nil, {valid(), valid()}, {valid(), other}} {
		var keys []*Key
		for _, s := range list {
			keys = append(keys, mustKey(t, s))
		}
		if _, err := NewKeys(keys...); err == nil {
			t.Errorf("%d keys are accepted", len(keys))
		}
	}
}
