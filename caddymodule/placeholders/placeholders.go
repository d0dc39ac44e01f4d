// Package placeholders replaces placeholders such as {env.REDIS_URL} in the settings of modules.
package placeholders

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"
)

// Replacer replaces the placeholders of several settings and keeps the first error, so that the caller checks once.
// A Replacer is not safe for concurrent use.
type Replacer struct {
	replacer *caddy.Replacer
	err      error
}

// New returns a Replacer with Caddy's global placeholders.
func New() *Replacer { return &Replacer{replacer: caddy.NewReplacer()} }

// In returns the text of a setting with its placeholders replaced. An unknown or empty placeholder is an error.
func (r *Replacer) In(setting, text string) string {
	replaced, err := r.replacer.ReplaceOrErr(text, true, true)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", setting, err)
	}
	return replaced
}

// Err returns the first error of [Replacer.In], which names the setting.
func (r *Replacer) Err() error { return r.err }
