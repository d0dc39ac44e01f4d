package relay_test

import (
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

func FuzzParsePosition(f *testing.F) {
	f.Add("AAYoXy1x8AAAAAAAAAAAAQ")
	f.Add("AAYoXy1x8AAAAAAAAAAAAQAB")
	f.Fuzz(func(t *testing.T, token string) {
		p, err := relay.ParsePosition(token)
		if err == nil && p.String() != token {
			t.Errorf("the token of %q is %q", token, p)
		}
	})
}

func TestPositionTokens(t *testing.T) {
	for _, p := range []relay.Position{
		{Micros: 1}, {Mark: 1}, {Part: 1}, {Micros: 1764378000123456, Mark: 1<<64 - 1, Part: 1<<16 - 1}, {Micros: -1},
	} {
		if got, err := relay.ParsePosition(p.String()); got != p || err != nil {
			t.Errorf("the token %q of %+v reads as %+v, %v", p, p, got, err)
		}
	}
	for _, token := range []string{
		"", "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAQ=", "AAAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA+",
	} {
		if p, err := relay.ParsePosition(token); err == nil {
			t.Errorf("%q reads as %+v, want an error", token, p)
		}
	}
}
