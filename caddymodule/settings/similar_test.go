package settings

import "testing"

func TestRemedy(t *testing.T) {
	known := []string{"channel_layer", "connections", "connections_per_user", "route", "groups", "prefix", "state_timeout", "on"}
	for word, want := range map[string]string{
		"channel_layr": "did you mean channel_layer? Use one",
		"conections":   "did you mean connections? Use one",
		"rout":         "did you mean route? Use one",
		"rotue":        "did you mean route? Use one",
		"group":        "did you mean groups? Use one",
		"prefx":        "did you mean prefix? Use one",
		"Prefix":       "did you mean prefix? Use one",
		"conn":         "did you mean connections or connections_per_user? Use one",
		"timeout":      "did you mean state_timeout? Use one",
		"foo":          "use one",
		"no":           "use one",
		"x":            "use one",
		"route":        "use one",
		"":             "use one",
		"préfix":       "did you mean prefix? Use one",
	} {
		if got := Remedy(word, known, "use one"); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
