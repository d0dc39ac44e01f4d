package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/caddymodule/uwsgi"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/presence"
	"github.com/edgerelay/edgerelay/relay/presence/webhook"
)

// RoutePresence follows which users are in the groups of a route, on all nodes of the channel layer.
type RoutePresence struct {
	// Grace is the time after a user's last connection before the user leaves. A reconnect within the time is not
	// noticed. Default: 15s.
	Grace *caddy.Duration `json:"grace,omitempty" caddyfile:"<duration>"`
	// Info are members of the user's profile, such as claims of a token, that others see: {user.name}. Default: none.
	Info []string `json:"info,omitempty" caddyfile:"<placeholder>..." example:"{user.name}"`
	// AnnounceUpTo is the number of users in a group up to which each join and leave is announced, and the number of
	// users in a list. In a larger group, the number of users is announced, once a second at most. Default: 100.
	AnnounceUpTo *int `json:"announce_up_to,omitempty" caddyfile:"<users>|off" min:"1"`
	// Groups are patterns of the groups that have presence, such as chat_*. Default: all groups of the route.
	Groups []string `json:"groups,omitempty" caddyfile:"<pattern>..." example:"chat_*"`
	// Webhook is a URL of the site that is called when a group gets its first user, or has lost its last.
	Webhook *PresenceWebhook `json:"webhook,omitempty" caddyfile:"<url> [<path>] { … }"`
}

// PresenceWebhook is a URL of the site that is called about groups.
type PresenceWebhook struct {
	// URL is the address: http:// or https://, or uWSGI's socket, such as uwsgi://127.0.0.1:8050.
	URL string `json:"url"`
	// Path is the path of a request to uWSGI's socket.
	Path string `json:"path,omitempty"`
	// Key signs the requests. Write a placeholder. Default: requests are not signed.
	Key string `json:"key,omitempty" caddyfile:"<secret>" min:"1" example:"{env.PRESENCE_KEY}"`
	// Users also calls when a user joins or leaves a group. Default: false.
	Users bool `json:"users,omitempty" caddyfile:"on|off"`
}

const (
	defaultGrace        = 15 * time.Second
	maxGrace            = 24 * time.Hour
	defaultAnnounceUpTo = 100
	maxAnnounceUpTo     = 10_000
	// maxInfoBytes bounds the information about a user. Longer members are left out.
	maxInfoBytes = 2048
)

// compile checks the settings, and adds the webhook to the configuration. A nil RoutePresence is no presence.
func (rp *RoutePresence) compile(ctx caddy.Context, app *App) (*node.RoutePresence, error) {
	if rp == nil {
		return nil, nil
	}
	out := &node.RoutePresence{Presence: &app.node.Presence, Groups: rp.Groups}
	out.Policy = presence.Policy{Grace: defaultGrace, AnnounceUpTo: defaultAnnounceUpTo}
	if rp.Grace != nil {
		if out.Policy.Grace = time.Duration(*rp.Grace); out.Policy.Grace < 0 || out.Policy.Grace > maxGrace {
			return nil, errors.New("grace is between 0s and 24h")
		}
	}
	if rp.AnnounceUpTo != nil {
		if out.Policy.AnnounceUpTo = *rp.AnnounceUpTo; *rp.AnnounceUpTo < 0 || *rp.AnnounceUpTo > maxAnnounceUpTo {
			return nil, fmt.Errorf("announce_up_to is a number up to %d, or off: each user of a group is told of each "+
				"other", maxAnnounceUpTo)
		}
	}
	for _, pattern := range rp.Groups {
		if err := relay.CheckPattern(pattern); err != nil {
			return nil, fmt.Errorf("groups: %w", err)
		}
	}
	var members []string
	for _, placeholder := range rp.Info {
		name, begins := strings.CutPrefix(placeholder, "{user.")
		name, ends := strings.CutSuffix(name, "}")
		if !begins || !ends || name == "" || strings.ContainsAny(name, "{}") {
			return nil, fmt.Errorf("info: %q is no member of the user's profile; write {user.name}", placeholder)
		}
		members = append(members, name)
	}
	out.Info = func(id relay.Identity) string { return infoOf(id, members) }
	if app.config.Presence == nil {
		app.config.Presence = &node.PresenceConfig{}
	}
	if rp.Webhook != nil {
		hook, err := rp.Webhook.compile(ctx)
		if err != nil {
			return nil, fmt.Errorf("webhook: %w", err)
		}
		hook = app.config.Presence.AddWebhook(hook)
		out.Policy.Webhook, out.Policy.WebhookUsers = hook.ID(), rp.Webhook.Users
	}
	return out, nil
}

// infoOf returns an object with members of a user's profile.
func infoOf(id relay.Identity, members []string) string {
	if len(members) == 0 {
		return ""
	}
	var profile map[string]json.RawMessage
	_ = json.Unmarshal([]byte(id.Profile), &profile) // without a profile, there is nothing to tell
	text := "{"
	for _, name := range members {
		value, ok := profile[name]
		if !ok || len(text)+len(value) > maxInfoBytes {
			continue
		}
		if len(text) > 1 {
			text += ", "
		}
		quoted, _ := json.Marshal(name)
		text += string(quoted) + ": " + string(value)
	}
	return text + "}"
}

// compile checks the settings.
func (w *PresenceWebhook) compile(ctx caddy.Context) (*webhook.Hook, error) {
	replaced := placeholders.New()
	address, key := replaced.In("url", w.URL), replaced.In("key", w.Key)
	if err := replaced.Err(); err != nil {
		return nil, err
	}
	network, socket, is, err := uwsgi.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	if !is {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || w.Path != "" {
			return nil, errors.New("the address is no URL; write https://example.com/presence/, or uWSGI's socket and " +
				"a path: uwsgi://127.0.0.1:8050 /presence/")
		}
		if err := settings.CheckURLPort(address); err != nil {
			return nil, fmt.Errorf("url: %w", err)
		}
		return webhook.New(address, key, nil), nil
	}
	if !strings.HasPrefix(w.Path, "/") {
		return nil, errors.New("uWSGI's socket needs a path, as in: webhook uwsgi://127.0.0.1:8050 /presence/")
	}
	var transport http.RoundTripper
	if transport, err = uwsgi.NewDirect(ctx, network, socket); err != nil {
		return nil, err
	}
	host := socket
	if network == "unix" {
		host = "localhost"
	}
	return webhook.New("http://"+host+w.Path, key, transport), nil
}

// ReadBlock implements [settings.BlockReader]. It reads `webhook <url> [<path>] { … }`.
func (w *PresenceWebhook) ReadBlock(d *caddyfile.Dispenser) error {
	if !d.Args(&w.URL) {
		return d.Err("webhook needs a URL, such as: webhook https://example.com/presence/")
	}
	if d.NextArg() {
		w.Path = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	return settings.Read(d, "webhook", w)
}
