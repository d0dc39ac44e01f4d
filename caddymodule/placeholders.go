package caddymodule

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"
)

// placeholders replaces those in settings, such as {env.REDIS_URL}, and keeps the first error.
type placeholders struct {
	replacer *caddy.Replacer
	err      error // names the setting
}

func newPlaceholders() *placeholders { return &placeholders{replacer: caddy.NewReplacer()} }

// in returns a setting's text with its placeholders replaced. One that is unknown or empty is an error.
func (p *placeholders) in(setting, text string) string {
	replaced, err := p.replacer.ReplaceOrErr(text, true, true)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("%s: %w", setting, err)
	}
	return replaced
}
