package pyjson

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// The wanted texts are those of Python's json.dumps(json.loads(text)).
func TestNormalize(t *testing.T) {
	for text, want := range map[string]string{
		` { "a" :[1 ,2.50,-0,1e3,1E-7,1e16,123456789012345678901234567890], "b":{}, "c":[] } `: `{"a": [1, 2.5, 0, 1000.0, 1e-07, 1e+16, 123456789012345678901234567890], "b": {}, "c": []}`,
		`"é\u00E9\/\u000a\b\f\r\t\"\\\u0041"`:                                                  `"\u00e9\u00e9/\n\b\f\r\t\"\\A"`,
		`"😀\ud83d\ude00\ud83d"`:                                                                `"\ud83d\ude00\ud83d\ude00\ud83d"`,
		"\"\x7f\"":                                                                             `"\u007f"`,
		`[true,false,null]`:                                                                    `[true, false, null]`,
		`-0.0`:                                                                                 `-0.0`,
		`0.0001`:                                                                               `0.0001`,
		`9007199254740993.0`:                                                                   `9007199254740992.0`,
	} {
		if got, err := Normalize(nil, []byte(text)); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "{", "[1,]", "[1 2]", `{"a"}`, `{"a":}`, `{a:1}`, "01", "1.", "-", "1e", `"\x"`, `"\u12"`, "\"\n\"", "tru",
		"1 2", "NaN", "1e999", "\"\xff\"",
	} {
		if got, err := Normalize([]byte("x"), []byte(text)); err == nil || string(got) != "x" {
			t.Errorf("%q is accepted: %q", text, got)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	f.Add(`{"a":[1,{"b":"\u00e9"}],"c":1e5}`)
	f.Add("1" + strings.Repeat("0", 309))
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Normalize(nil, []byte(text))
		if err != nil {
			return
		}
		if !json.Valid([]byte(text)) || !json.Valid(got) {
			t.Fatalf("%q became %q", text, got)
		}
		var before, after any
		if json.Unmarshal([]byte(text), &before) == nil { // otherwise, a number is too large for Go
			if err := json.Unmarshal(got, &after); err != nil || !reflect.DeepEqual(before, after) {
				t.Fatalf("%q became %q: %v", text, got, err)
			}
		}
		if again, err := Normalize(nil, got); err != nil || string(again) != string(got) {
			t.Fatalf("%q became %q, then %q", text, got, again)
		}
	})
}
