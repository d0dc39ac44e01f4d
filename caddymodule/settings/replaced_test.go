package settings

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// renamedBlock is a block whose setting "patience" became "wait", and that has lost "mood".
type renamedBlock struct {
	Wait string `json:"wait,omitempty" caddyfile:"<duration>"`
}

func (b *renamedBlock) UnmarshalJSON(text []byte) error {
	if err := CheckReplaced("fake", text); err != nil {
		return err
	}
	type plain renamedBlock
	return caddy.StrictUnmarshalJSON(text, (*plain)(b))
}

// A setting of an earlier version is refused with the line to write, in both formats. A misspelled one is unknown.
func TestReplacedSettingsNameTheirSuccessor(t *testing.T) {
	replacements = []Replacement{
		{Block: "fake", Setting: "patience", Since: "0.2.0", Write: "wait 5s"},
		{Block: "fake", Setting: "mood", Since: "0.3.0"},
	}
	t.Cleanup(func() { replacements = nil })
	for _, c := range []struct{ name, caddyfile, json, want string }{
		{"renamed", "patience 5s", `{"patience": "5s"}`, `fake: patience is refused since 0.2.0; write "wait 5s" instead`},
		{"removed", "mood good", `{"mood": "good"}`, "fake: mood is refused since 0.3.0; delete the line"},
		{"misspelled", "wiat 5s", `{"wiat": "5s"}`, "wiat"},
		{"current", "wait 5s", `{"wait": "5s"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := caddyfile.NewTestDispenser("fake {\n" + c.caddyfile + "\n}")
			d.Next()
			var fromFile, fromJSON renamedBlock
			for format, err := range map[string]error{
				"Caddyfile": Read(d, "fake", &fromFile), "JSON": json.Unmarshal([]byte(c.json), &fromJSON),
			} {
				switch {
				case c.want == "" && err != nil:
					t.Errorf("%s: %v", format, err)
				case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
					t.Errorf("%s: %v, want %q", format, err, c.want)
				}
			}
		})
	}
}
