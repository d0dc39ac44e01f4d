package console

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// A token is valid for its user, its login and its process, until it expires.
func TestTokens(t *testing.T) {
	own, other := &tokens{key: [32]byte{1}}, &tokens{key: [32]byte{2}}
	now, alice := time.Now(), relay.Identity{Key: "1", Name: "alice"}
	request := func(token, cookie string) *http.Request {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header.Set("Cookie", cookie)
		r.Header.Set(tokenHeader, token)
		return r
	}
	token := own.issue(request("", "a=1"), alice, now)
	for name, c := range map[string]struct {
		tokens *tokens
		token  string
		cookie string
		id     relay.Identity
		after  time.Duration
		want   bool
	}{
		"valid":         {own, token, "a=1", alice, tokenLifetime - time.Second, true},
		"expired":       {own, token, "a=1", alice, tokenLifetime, false},
		"other process": {other, token, "a=1", alice, 0, false},
		"other login":   {own, token, "a=2", alice, 0, false},
		"other user":    {own, token, "a=1", relay.Identity{Key: "1", Name: "bob"}, 0, false},
		"other id":      {own, token, "a=1", relay.Identity{Key: "2", Name: "alice"}, 0, false},
		"other kind":    {own, token, "a=1", relay.Identity{Key: "1", Name: "alice", Kind: relay.Superuser}, 0, false},
		"shortened":     {own, token[:len(token)-1], "a=1", alice, 0, false},
		"later end":     {own, "B" + token[1:], "a=1", alice, 0, false},
		"empty":         {own, "", "a=1", alice, 0, false},
	} {
		if got := c.tokens.valid(request(c.token, c.cookie), c.id, now.Add(c.after)); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
