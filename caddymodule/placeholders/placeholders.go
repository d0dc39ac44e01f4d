// Package placeholders replaces placeholders such as {env.REDIS_URL} in the settings of modules.
package placeholders

import (
	"fmt"
	"strings"

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
	replaced, err := replace(r.replacer, text)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", setting, err)
	}
	return replaced
}

// Replace returns a text with its placeholders replaced. An unknown or empty placeholder is an error.
func Replace(text string) (string, error) { return replace(caddy.NewReplacer(), text) }

// replace adds the remedy to the errors of Caddy.
func replace(r *caddy.Replacer, text string) (string, error) {
	replaced, err := r.ReplaceOrErr(text, true, true)
	if err == nil {
		return replaced, nil
	}
	remedy := "correct the placeholder"
	switch {
	case strings.Contains(err.Error(), "{env."):
		remedy = "set the environment variable for this process"
	case strings.Contains(err.Error(), "{file."):
		remedy = "let the file exist with a value, and the user of the relay read it"
	}
	return replaced, fmt.Errorf("%w; %s", err, remedy)
}

// Err returns the first error of [Replacer.In], which names the setting.
func (r *Replacer) Err() error { return r.err }
