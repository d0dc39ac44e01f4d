package doctor

import (
	"context"
	"net/http"
	"time"

	"github.com/edgerelay/edgerelay/relay/authz/jwt"
	authsite "github.com/edgerelay/edgerelay/relay/authz/site"
)

// AuthEndpoint checks the endpoint of auth http: whether it responds, and denies a client that is not logged in.
func AuthEndpoint(ctx context.Context, a *authsite.Authorizer) []Finding {
	const check = "auth http"
	ctx, cancel := context.WithTimeout(ctx, a.Settings().Timeout+time.Second)
	defer cancel()
	p := a.Probe(ctx)
	switch {
	case p.Err != nil:
		return []Finding{fail(check, "start the site, or correct the address of auth http; the endpoint answers 401 to a "+
			"client that is not logged in", "%v", p.Err)}
	case p.User != "":
		return []Finding{fail(check, "answer 401 to requests without a login",
			"the endpoint names the user %q for a request without credentials: everybody would be logged in as that user", p.User)}
	case p.Took > slowAWX:
		return []Finding{warn(check, "find the load on the site, or raise its number of processes",
			"the endpoint takes %v to respond; every new websocket is delayed by that", p.Took.Round(time.Millisecond))}
	}
	return []Finding{ok(check, "the endpoint responds within %v", p.Took.Round(100*time.Microsecond))}
}

// maxClockSkew is the difference of clocks from which tokens are judged wrongly.
const maxClockSkew = 5 * time.Second

// Tokens checks the keys of auth jwt, and compares the clock with the issuer's.
func Tokens(ctx context.Context, a *jwt.Authorizer) (list []Finding) {
	const check = "auth jwt"
	ctx, cancel := context.WithTimeout(ctx, a.Settings().Timeout+time.Second)
	defer cancel()
	p := a.Probe(ctx)
	if p.Err != nil {
		return []Finding{fail(check, "correct jwks, or let the relay reach the issuer; until then no new token is accepted "+
			"once the present keys are too old", "%v", p.Err)}
	}
	list = append(list, ok(check, "%d usable keys", p.Keys))
	for _, skipped := range p.Skipped {
		list = append(list, warn(check, "none, unless tokens are signed with this key", "a key is not used: %v", skipped))
	}
	if at, err := http.ParseTime(p.Date); err == nil {
		if skew := time.Since(at).Abs(); skew > maxClockSkew+time.Second {
			list = append(list, warn(check, "synchronize the clocks of this host and of the issuer",
				"the issuer's clock differs by %v", skew.Round(time.Second)))
		}
	}
	if p.NoRules {
		list = append(list, warn(check, "add allow or groups_claim, unless routes grant all groups",
			"there are no rules for groups: users see only the groups that routes grant"))
	}
	return list
}
