package placeholders

import (
	"strings"
	"testing"
)

// The error for an unknown or empty placeholder names the setting, the placeholder and the remedy.
func TestErrorsHaveRemedies(t *testing.T) {
	for text, want := range map[string]string{
		"{env.EDGERELAY_TEST_NOT_SET}": "set the environment variable for this process",
		"{file./nowhere/secret}":       "let the file exist",
		"{nonsense}":                   "correct the placeholder",
	} {
		r := New()
		r.In("url", text)
		if err := r.Err(); err == nil || !strings.HasPrefix(err.Error(), "url: ") || !strings.Contains(err.Error(), text) ||
			!strings.Contains(err.Error(), "; "+want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
	t.Setenv("EDGERELAY_TEST_SET", "x")
	if got, err := Replace("a{env.EDGERELAY_TEST_SET}b"); err != nil || got != "axb" {
		t.Errorf("got %q, %v", got, err)
	}
}
