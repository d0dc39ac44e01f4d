package pyjson_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/pyjson"
)

// dumps encodes each line of input, a JSON list of strings from Go, with Python.
const dumps = `
import json, sys
for line in sys.stdin:
    print(json.dumps(json.loads(line)))
`

// python returns the lists as Python encodes them.
func python(t *testing.T, lists [][]string) []string {
	t.Helper()
	var in strings.Builder
	for _, list := range lists {
		line, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	cmd := exec.Command("/usr/bin/python3", "-c", dumps)
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3: %v; install it with apt-get install python3", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(lists) {
		t.Fatalf("%d lines for %d lists", len(lines), len(lists))
	}
	return lines
}

func TestSameBytesAsPython(t *testing.T) {
	lists := [][]string{nil, {}, {""}, {"a", "b"}}
	lists[0] = []string{} // Go writes null for nil
	var every []string
	for r := rune(0); r <= 0x10ffff; r++ {
		switch {
		case 0xd800 <= r && r <= 0xdfff: // surrogates
		case r < 0x3000 || 0xd7f0 <= r && r < 0xe010 || r >= 0xfff0 && r < 0x10010 || r%997 == 0 || r >= 0x10fff0:
			every = append(every, string(r))
		}
	}
	lists = append(lists, every)
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []rune("\x00\x01\x1f\b\f\n\r\t \"\\/<>&'\x7f\u0080\u00ffäß\u2028\u2029\ufeff\ufffd\uffff" +
		"\U00010000\U0001f600\U0010ffff{}[]:,az09")
	for range 500 {
		list := make([]string, random.IntN(6))
		for i := range list {
			runes := make([]rune, random.IntN(40))
			for j := range runes {
				runes[j] = alphabet[random.IntN(len(alphabet))]
			}
			list[i] = string(runes)
		}
		lists = append(lists, list)
	}
	for i, want := range python(t, lists) {
		if got := string(pyjson.AppendStrings(nil, lists[i])); got != want {
			t.Errorf("got  %.300s\nwant %.300s", got, want)
		}
	}
}

// Invalid UTF-8, including lone surrogates, becomes U+FFFD.
func TestInvalidUTF8(t *testing.T) {
	for in, want := range map[string]string{
		"a\xffb":       `"a\ufffdb"`,
		"\xed\xa0\x80": `"\ufffd\ufffd\ufffd"`,
		"\xf0\x9f":     `"\ufffd\ufffd"`,
	} {
		if got := string(pyjson.AppendString(nil, in)); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\x00\U0001f600\xff")
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		got := pyjson.AppendString(nil, s)
		err := json.Unmarshal(got, &back)
		if err != nil || back != strings.ToValidUTF8(s, "\ufffd") && back != string([]rune(s)) {
			t.Errorf("%q became %s, %q, %v", s, got, back, err)
		}
	})
}

// As in Python, the last member of a name counts, in the place of the first one.
func TestRewrite(t *testing.T) {
	many, want := "{", "{"
	for i := range 100 {
		many += fmt.Sprintf(`"k%d":%d,`, i, i)
		want += fmt.Sprintf(`"k%d": %d, `, i, map[bool]int{true: 1000 + i, false: i}[i%3 == 0])
	}
	for i := range 100 {
		if i%3 == 0 {
			many += fmt.Sprintf(`"k%d":%d,`, i, 1000+i)
		}
	}
	for in, want := range map[string]string{
		` { "a" : [ ] , "b" : { } } `:                                `{"a": [], "b": {}}`,
		`{"a": 1, "b": [{"x": 1, "x": {"y": 2}}], "a": "long"}`:      `{"a": "long", "b": [{"x": {"y": 2}}]}`,
		many[:len(many)-1] + "}":                                     want[:len(want)-2] + "}",
		"\"\u00e4\\/\\u00E4\\u000a\\ud800\"":                         `"\u00e4/\u00e4\n\ud800"`,
		`[-0, -0.0, 1E5, 1.10, 1e400, -1e-400]`:                      `[0, -0.0, 100000.0, 1.1, Infinity, -0.0]`,
		`[NaN, Infinity, -Infinity, 123456789012345678901234567890]`: `[NaN, Infinity, -Infinity, 123456789012345678901234567890]`,
	} {
		if got, err := pyjson.Append(nil, []byte(in)); err != nil || string(got) != want {
			t.Errorf("%.100s: %v\ngot  %s\nwant %s", in, err, got, want)
		}
	}
	for _, in := range []string{
		``, `{`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `[1,]`, `[1 2]`, `01`, `1.`, `.5`, `+1`, `-`, `1e`, `tru`, `"`, `"\`,
		`"\u12"`, `"\x"`, "\"\n\"", "\"\xff\"", `1 2`, `nan`, `-Inf`, "\ufeff1",
	} {
		if got, err := pyjson.Append(nil, []byte(in)); err == nil {
			t.Errorf("%q became %s", in, got)
		}
	}
}
