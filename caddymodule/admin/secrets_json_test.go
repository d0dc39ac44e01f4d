package admin

import "testing"

// The log and the files of a support bundle are JSON that escapes quotes, and no HTML. It may quote other JSON, also
// such that escapes all characters but those of ASCII.
func TestSecretsInJSONAreFound(t *testing.T) {
	for secret, texts := range map[string][]string{
		`a<b&c"d-long`: {
			`{"x":"a<b&c\"d-long"}`, `{"x":"a\u003cb\u0026c\"d-long"}`, `a<b&c"d-long`,
			`{"x":"{\"y\":\"a<b&c\\\"d-long\"}"}`, `{"x":"{\"y\":\"a\\u003cb\\u0026c\\\"d-long\"}"}`,
			`{"x":"{\"y\":\"{\\\"z\\\":\\\"a<b&c\\\\\\\"d-long\\\"}\"}"}`,
		},
		`passwör"😀d`: {
			`{"x":"passw\u00f6r\"\ud83d\ude00d"}`,
			`{"x":"{\"y\":\"passw\\u00f6r\\\"\\ud83d\\ude00d\"}"}`,
		},
	} {
		for _, text := range texts {
			if found := FindSecrets(SecretSearch{Secrets: []string{secret}, Texts: []string{text}}); !found.Found[0] {
				t.Errorf("%s is not found in %s", secret, text)
			}
		}
	}
}
