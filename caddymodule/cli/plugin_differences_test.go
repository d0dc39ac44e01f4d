package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

func TestPrintDifferences(t *testing.T) {
	at := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		list []plugins.ShadowDifference
		want string
	}{
		{"none", nil, "no differing decisions\n"},
		{"a replacement and a failure", []plugins.ShadowDifference{
			{
				At: at, Group: "g", Payload: "{\"a\":\x1b[1m1}", PayloadBytes: 10,
				Original: plugins.EventDecision{Verdict: "replace", Output: "{}", OutputBytes: 2, Audience: []uint8{1, 2}},
				Shadow: plugins.EventDecision{
					Verdict: "drop", Emits: []plugins.EventEmission{{Group: "x", Payload: "yy", PayloadBytes: 9}},
				},
			},
			{
				At: at, Group: "h", Payload: strings.Repeat("x", 500), PayloadBytes: 5000,
				Original: plugins.EventDecision{Verdict: "pass"},
				Shadow:   plugins.EventDecision{Verdict: "failed", Error: "unreachable\n in f"},
			},
		}, "2026-11-28T10:00:00.000Z g {\"a\":\ufffd[1m1}\n" +
			"  original: replace, {}, for classes [1 2]\n" +
			"  shadow:   drop, emits to x yy… (9 bytes)\n" +
			"2026-11-28T10:00:00.000Z h " + strings.Repeat("x", 240) + "… (5000 bytes)\n" +
			"  original: pass\n" +
			"  shadow:   failed, unreachable\ufffd in f\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			if err := printDifferences(&b, c.list); err != nil || b.String() != c.want {
				t.Errorf("%v, got\n%s\nwant\n%s", err, &b, c.want)
			}
		})
	}
}
