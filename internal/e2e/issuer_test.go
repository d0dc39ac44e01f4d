package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// startIssuer starts a site in Python that issues tokens and answers auth http.
func startIssuer(t *testing.T) (url string) {
	t.Helper()
	port := testkit.FreePort(t)
	script := filepath.Join(peers.Root(t), "internal", "e2e", "testdata", "python", "issuer.py")
	process.Start(t, "issuer", exec.Command(process.Program(t, peers.Python), "-u", "-B", script, fmt.Sprint(port)))
	url = fmt.Sprint("http://127.0.0.1:", port)
	testkit.Eventually(t, "the issuer answers", func() error {
		resp, err := http.Get(url + "/keys")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	})
	return url
}

func issuerPost(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Post(url, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// issued returns a token of PyJWT.
func issued(t *testing.T, issuer, algorithm, user string) string {
	t.Helper()
	resp, err := http.Get(issuer + "/token/" + algorithm + "?sub=" + user)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.Token
}

// issuerSite is a site whose first port takes tokens and whose route asks the site.
func issuerSite(issuer string) string {
	return `{
	admin {$ADMIN}
	edgerelay {
		auth jwt {
			jwks ` + issuer + `/keys
			groups_claim groups
			from header
			recheck 200ms
		}
	}
}
{$SITE} {
	edgerelay {
		path /websocket/
		route /ws/{group}/ {
			auth http ` + issuer + `/auth/ {
				cache 1ms
				recheck 200ms
			}
			groups {group}
		}
	}
}`
}

// Tokens that PyJWT has signed log in, with each algorithm, and after a rotation of the keys. A connection by a
// withdrawn key is told to come back.
func TestTokensOfPyJWT(t *testing.T) {
	t.Parallel()
	issuer := startIssuer(t)
	r := peers.StartRelay(t, issuerSite(issuer))
	bearer := func(token string) http.Header {
		return http.Header{"Authorization": {"Bearer " + token}, "Cookie": {"csrftoken=t"}}
	}
	var old *wstest.Client
	for _, algorithm := range []string{"RS256", "PS256", "RS512", "ES256", "EdDSA"} {
		old, _ = enter(t, r, bearer(issued(t, issuer, algorithm, "ann")))
	}
	if got := askFor(t, old, `{"news": [1]}`); len(got) != 1 {
		t.Errorf("groups %v, want that of the claim", got)
	}
	issuerPost(t, issuer+"/rotate")
	enter(t, r, bearer(issued(t, issuer, "RS256", "ann")))
	for {
		text, err := old.Next(patience)
		if err == nil {
			continue
		}
		if wstest.CloseCode(err) != 1012 {
			t.Errorf("%q, %v; want a close with 1012", text, err)
		}
		return
	}
}

// A site in Python decides about logins and groups, and ends a login.
func TestSiteDecides(t *testing.T) {
	t.Parallel()
	issuer := startIssuer(t)
	r := peers.StartRelay(t, issuerSite(issuer))
	as := func(user string) http.Header { return http.Header{"Cookie": {"sessionid=" + user}} }
	for path, want := range map[string]int{
		"/ws/user-ann/": 101, "/ws/orders-ann-1/": 101, "/ws/user-bob/": 403, "/ws/orders-bob-1/": 403,
	} {
		_, resp, err := wstest.Dial(t, r.URL+path, as("ann"))
		if resp == nil || resp.StatusCode != want {
			t.Errorf("%s: %v, %v; want %d", path, resp, err, want)
		}
	}
	c, _, err := wstest.Dial(t, r.URL+"/ws/user-ann/", as("ann"))
	if err != nil {
		t.Fatal(err)
	}
	issuerPost(t, issuer+"/logout/ann")
	if text, err := c.Next(patience); wstest.CloseCode(err) <= 1000 {
		t.Errorf("after the logout: %q, %v; want a close frame", text, err)
	}
}
