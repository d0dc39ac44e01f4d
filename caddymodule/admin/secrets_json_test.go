package admin

import "testing"

// The log and the files of a support bundle are JSON that escapes quotes, and no HTML.
func TestSecretsInJSONAreFound(t *testing.T) {
	const secret = `a<b&c"d-long`
	for _, text := range []string{
		`{"x":"a<b&c\"d-long"}`, `{"x":"a\u003cb\u0026c\"d-long"}`, `a<b&c"d-long`,
	} {
		if found := FindSecrets(SecretSearch{Secrets: []string{secret}, Texts: []string{text}}); !found.Found[0] {
			t.Errorf("not found in %s", text)
		}
	}
}
