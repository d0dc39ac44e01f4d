package settings

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

type inner struct {
	Words []string `json:"words" caddyfile:"<word>..."`
}

type embedded struct {
	Flag bool `json:"flag" caddyfile:"-"`
}

type block struct {
	embedded
	Size    int            `json:"size" caddyfile:"<size>"`
	Wide    *int64         `json:"wide" caddyfile:"<size>"`
	Count   *int           `json:"count" caddyfile:"<number>" min:"1"`
	Every   int            `json:"every" caddyfile:"<events>|off"`
	Byte    uint8          `json:"byte" caddyfile:"<0 to 255>"`
	Rate    float64        `json:"rate" caddyfile:"<messages a second>"`
	Time    caddy.Duration `json:"time" caddyfile:"<duration>" min:"1"`
	Recheck DurationOrOff  `json:"recheck" caddyfile:"<duration>|off" min:"1"`
	Grace   *DurationOrOff `json:"grace" caddyfile:"<duration>|0|off" min:"1"`
	On      *bool          `json:"on" caddyfile:"on|off"`
	Word    string         `json:"word" caddyfile:"red|green"`
	Name    string         `json:"name" caddyfile:"<name>"`
	Inner   *inner         `json:"inner" caddyfile:"{ … }"`
	Text    string         `json:"text" caddyfile:"<json>"`
	Hidden  string         `json:"hidden"`
}

func TestRead(t *testing.T) {
	for _, c := range []struct{ name, block, want string }{
		{"size", "size 64KiB", `"size":65536`},
		{"size beyond a buffer", "size 2GiB", "too large"},
		{"size without a number", "size much", "invalid size"},
		{"wide size", "wide 1TiB", `"wide":1099511627776`},
		{"count", "count 3", `"count":3`},
		{"count below its minimum", "count 0", "above 0"},
		{"count without a number", "count three", "invalid number"},
		{"every", "every 1000", `"every":1000`},
		{"every switched off", "every off", `"every":0`},
		{"byte", "byte 255", `"byte":255`},
		{"byte beyond its range", "byte 256", "0 to 255"},
		{"rate", "rate 0.5", `"rate":0.5`},
		{"rate that JSON cannot hold", "rate NaN", "invalid number"},
		{"duration", "time 1d", `"time":86400000000000`},
		{"duration below its minimum", "time 0", "above 0"},
		{"duration without a unit that is known", "time soon", "such as 30s"},
		{"duration or off", "recheck off", `"recheck":"off"`},
		{"duration or zero", "grace 0", `"grace":0`},
		{"duration that must not be zero", "recheck 0", "above 0"},
		{"boolean", "on off", `"on":false`},
		{"boolean with another word", "on yes", "use on or off"},
		{"word", "word green", `"word":"green"`},
		{"word of no list", "word blue", "use red or green"},
		{"word in a placeholder", "word {env.COLOR}", `"word":"{env.COLOR}"`},
		{"text", "name x", `"name":"x"`},
		{"text without a value", "name", "name takes one value: <name>"},
		{"text with two values", "name x y", "name takes one value"},
		{"flag of an embedded struct", "flag", `"flag":true`},
		{"flag with a value", "flag on", "takes no value"},
		{"block behind a value", "name x {\nwords a\n}", "the block: name takes no block"},
		{"block behind a list", "inner {\nwords a {\nx\n}\n}", "inner: words takes no block"},
		{"block behind a flag", "flag {\nx\n}", "the block: flag takes no block"},
		{"setting without a name", "{\nname x\n}", "the block: the block takes no block"},
		{"number beyond 64 bits", "count 99999999999999999999", "the block: count: number 99999999999999999999 is too large; use 2147483647 at most"},
		{"number with a base", "count 0x10", "invalid number"},
		{"number in a placeholder", "count {env.COUNT}", "invalid number"},
		{"empty number", `count ""`, "invalid number"},
		{"fraction of a size", "size 1.5KiB", `"size":1536`},
		{"size just too large", "size 2GiB", "use less than 2 GiB"},
		{"repeated setting", "count 3\ncount 4", `"count":4`},
		{"repeated block", "inner {\nwords a\n}\ninner {\nwords b\n}", `"words":["a","b"]`},
		{"block", "inner {\nwords a b\nwords c\n}", `"words":["a","b","c"]`},
		{"block with arguments", "inner x", "takes a block"},
		{"list without a value", "inner {\nwords\n}", "at least one value"},
		{"unknown setting of an inner block", "inner {\nword a\n}", `inner has no setting "word"; did you mean words? It has words`},
		{"JSON", "text `{\"a\": 1}`", `"text":"{\"a\": 1}"`},
		{"JSON that is none", "text x", "invalid JSON"},
		{"unknown setting", "sise 1", `the block has no setting "sise"; did you mean size? It has flag, size, wide,`},
		{"field without a tag", "hidden x", `no setting "hidden"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b block
			d := caddyfile.NewTestDispenser("block {\n" + c.block + "\n}")
			d.Next()
			got := ""
			if err := Read(d, "the block", &b); err != nil {
				got = err.Error()
			} else {
				text, err := json.Marshal(&b)
				if err != nil {
					t.Fatal(err)
				}
				got = string(text)
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("%q becomes %s, want %s in it", c.block, got, c.want)
			}
		})
	}
}

func TestDurationOrOffInJSON(t *testing.T) {
	for text, want := range map[string]string{`"off"`: `"off"`, `"1m"`: "60000000000", "5": "5", `"-1s"`: "error", `true`: "error"} {
		var d DurationOrOff
		got := "error"
		if err := json.Unmarshal([]byte(text), &d); err == nil {
			b, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			got = string(b)
		}
		if got != want {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	number := func(n int) *int { return &n }
	off := Off
	for _, c := range []struct {
		name, want string
		block      block
	}{
		{"defaults", "", block{}},
		{"what Read accepts", "", block{Size: 1, Count: number(1), Recheck: Off, Grace: &off, Time: 1}},
		{"zero that stands for off", "", block{Grace: new(DurationOrOff)}},
		{"size", `the block: size: invalid size "-1"; use a value such as 64KiB`, block{Size: -1}},
		{"count", `the block: count: invalid number "0"; use a value above 0`, block{Count: number(0)}},
		{"large count", "the block: count: number 3000000000 is too large; use 2147483647 at most", block{Count: number(3e9)}},
		{"rate", `the block: rate: invalid number "-0.5"`, block{Rate: -0.5}},
		{"duration", `the block: time: invalid duration "-1s"`, block{Time: caddy.Duration(-time.Second)}},
		{"long duration", "the block: time: duration 2400000h0m0s is too long; use 10000d at most", block{Time: caddy.Duration(100_000 * 24 * time.Hour)}},
	} {
		got := ""
		if err := Check("the block", &c.block); err != nil {
			got = err.Error()
		}
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q in it", c.name, got, c.want)
		}
	}
	if err := Check("the block", (*block)(nil)); err != nil {
		t.Error(err)
	}
}

func TestEmptyText(t *testing.T) {
	var b struct {
		Key string `json:"key" caddyfile:"<secret>" min:"1" example:"{env.KEY}"`
	}
	d := caddyfile.NewTestDispenser("block {\nkey \"\"\n}")
	d.Next()
	err := Read(d, "the block", &b)
	if err == nil || !strings.Contains(err.Error(), "the block: key: the value is empty; write one, such as {env.KEY}, or remove the setting") {
		t.Error(err)
	}
}
