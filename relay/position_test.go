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

// The base64 decoder skips line ends, which no token has.
func TestPositionWithLineEnds(t *testing.T) {
	whole := relay.Position{Micros: 1, Mark: 2, Part: 3}.String()
	for _, token := range []string{
		"\n\r" + whole[:20], whole[:20] + "\n\n", "\r" + whole[:22] + "\n", whole[:11] + "\n\n" + whole[11:22],
	} {
		if p, err := relay.ParsePosition(token); err == nil {
			t.Errorf("%q is %v", token, p)
		}
	}
}
