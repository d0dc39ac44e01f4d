package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// minSecretLength is the least length of a publishing key's secret, in bytes.
const minSecretLength = 32

// PublishKey is a key of edgerelay_publish as the doctor examines it.
type PublishKey struct {
	Name   string
	Groups []string
	// SecretLength is the length of the shortest secret, and Literal tells that a secret is written in the configuration.
	SecretLength int
	Literal      bool
	// Cleartext counts requests from outside without TLS.
	Cleartext uint64
}

// PublishKeys examines the keys of edgerelay_publish. Without keys there is no finding.
func PublishKeys(keys []PublishKey) (list []Finding) {
	const check = "publishing"
	var names []string
	for _, k := range keys {
		name := k.Name
		for _, g := range k.Groups {
			if strings.Trim(g, "*") == "" {
				name += " (every group)"
				break
			}
		}
		names = append(names, name)
		switch {
		case k.Cleartext > 0:
			list = append(list, fail(check, "use https, and replace the secret: `previous` accepts the old one for a while",
				"key %s was sent %d times from outside without encryption", k.Name, k.Cleartext))
		case k.SecretLength < minSecretLength:
			list = append(list, warn(check, "make a new secret, such as by `openssl rand -hex 32`",
				"a secret of key %s has %d characters, fewer than %d", k.Name, k.SecretLength, minSecretLength))
		case k.Literal:
			list = append(list, warn(check, "write a placeholder such as {env.NAME} or {file./run/secrets/name}",
				"a secret of key %s is written in the configuration, which the admin API shows", k.Name))
		}
	}
	if len(keys) > 0 && len(list) == 0 {
		list = append(list, ok(check, "keys that may publish over HTTP: %s", strings.Join(names, ", ")))
	}
	return list
}

// Claims checks whether the channel layer keeps idempotency keys. The check writes a claim of its own, which it removes
// and which also expires.
func Claims(ctx context.Context, keeper relay.ClaimKeeper) Finding {
	const check = "idempotency"
	if keeper == nil {
		return ok(check, "idempotency keys are kept in this process, and are unknown to other nodes")
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	claim := relay.ClaimSwap{Key: "doctor" + strings.ToLower(rand.Text()), To: "x", Lifetime: 10 * time.Second}
	texts, err := keeper.SwapClaims(ctx, []relay.ClaimSwap{claim})
	if err == nil && texts[0] == claim.To {
		claim.From, claim.To = "x", ""
		texts, err = keeper.SwapClaims(ctx, []relay.ClaimSwap{claim})
	}
	if err == nil && texts[0] != "" {
		err = fmt.Errorf("the claim is %q, want none", texts[0])
	}
	if err != nil {
		return fail(check, "allow the command for the Redis user: ACL SETUSER … ~edgerelay:claim:* +eval +evalsha +get "+
			"+set +del", "idempotency keys are not kept, so that publications with one are rejected: %v", err)
	}
	return ok(check, "the channel layer keeps idempotency keys, for all nodes")
}
