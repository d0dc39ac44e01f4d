package publishing

import (
	"strings"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/relay/protocol/publish"
)

// Key is the credential of a program that publishes. Requests carry the secret as `Authorization: Bearer <secret>`.
type Key struct {
	// Name identifies the key in logs, metrics and status: 1 to 64 ASCII letters, digits, "-", "_" or ".".
	Name string `json:"name"`
	// Secret is the key's secret, of at least 32 random characters. Write a placeholder, such as {env.SHOP_KEY} or
	// {file./run/secrets/shop}: Caddy shows its configuration in the admin API.
	Secret string `json:"secret"`
	// Previous are former secrets, which are accepted as well during a rotation.
	Previous []string `json:"previous,omitempty" caddyfile:"<secret>..." example:"{env.SHOP_KEY_BEFORE}"`
	// Groups are the groups that the key may publish to; "*" stands for any run of characters. Required.
	Groups []string `json:"groups,omitempty" caddyfile:"<pattern>..." example:"orders-*"`
	// Types are the message types that the key may publish; messages in the form "text" have the type internal.message.
	// A type that begins with websocket., http., consumer., presence. or grip. must be listed by its full name.
	// Default: all other types.
	Types []string `json:"types,omitempty" caddyfile:"<pattern>..." example:"order.*"`
	// Rate is the number of publications a second on each node, counted by message and group. Default: no limit.
	Rate float64 `json:"rate,omitempty" caddyfile:"<publications a second>"`
	// Burst is the number of publications at once. A larger batch passes, and later requests wait for as long as the
	// batch takes at the rate. Default: the publications of one second.
	Burst int `json:"burst,omitempty" caddyfile:"<publications>" min:"1"`

	key *publish.Key
	// literal tells that a secret is written in the configuration.
	literal bool
}

// provisionKeys checks the keys and reads their secrets.
func provisionKeys(list []*Key, state *State) (*publish.Keys, error) {
	var keys []*publish.Key
	for _, k := range list {
		if err := k.provision(state); err != nil {
			return nil, err
		}
		keys = append(keys, k.key)
	}
	return publish.NewKeys(keys...)
}

func (k *Key) provision(state *State) (err error) {
	replacer := placeholders.New()
	read := func(text string) string {
		k.literal = k.literal || !strings.Contains(text, "{")
		return strings.TrimRight(replacer.In("key "+k.Name, text), "\r\n")
	}
	secrets := []string{read(k.Secret)}
	for _, text := range k.Previous {
		secrets = append(secrets, read(text))
	}
	if err := replacer.Err(); err != nil {
		return err
	}
	k.key, err = publish.NewKey(publish.KeySettings{
		Name: k.Name, Secrets: secrets, Groups: k.Groups, Types: k.Types, Rate: k.Rate, Burst: k.Burst,
	}, state.counters(k.Name))
	return err
}
