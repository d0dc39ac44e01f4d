package guests

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
)

// editCase is a line of sdk/testdata/edits.ndjson.
type editCase struct {
	Name, In string
	Ops      [][]string
	OK       []bool
	Out      *string
}

// event returns the event that makes a probe edit, and the expected result as show prints it.
func (c editCase) event() (ev plugins.Event, want string) {
	var ops []string
	made := ""
	for i, op := range c.Ops {
		ops = append(ops, strings.Join(append(op, "")[:3], "\x02"))
		made += strconv.Itoa(map[bool]int{true: 1}[c.OK[i]])
	}
	want = "pass"
	if c.Out != nil {
		want = *c.Out
	}
	return editEvent(c.In, ops), fmt.Sprintf("%s + %s to edits-made for ffffffffffffffff", want, made)
}

func editEvent(in string, ops []string) plugins.Event {
	return plugins.Event{Group: "edits", Payload: []byte(in), Source: strings.Join(ops, "\x03")}
}

func editCases(t testing.TB) (cases []editCase) {
	t.Helper()
	f, err := os.Open(filepath.Join(Root, "sdk", "testdata", "edits.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var c editCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	return cases
}

// TestEdits: the edits of an SDK keep the rules that all SDKs share.
func TestEdits(t *testing.T) {
	for _, language := range probes {
		t.Run(language, func(t *testing.T) { holdEdits(t, probe(t, language)) })
	}
}

func holdEdits(t *testing.T, wasm []byte) {
	t.Helper()
	trial := try(t, wasm)
	for _, c := range editCases(t) {
		ev, want := c.event()
		if got := show(trial.Event(ev)); got != want {
			t.Errorf("%s: %q instead of %q", c.Name, got, want)
		}
	}
}

// TestEditsFindPaths: edits find the values that json_find finds.
func TestEditsFindPaths(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(Root, "sdk", "testdata", "jsonpath.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for _, language := range probes {
		trial := try(t, probe(t, language))
		for line := range strings.Lines(string(text)) {
			var c struct{ Doc, Path, Raw string }
			if err := json.Unmarshal([]byte(line), &c); err != nil {
				t.Fatal(err)
			}
			if c.Path == "" || c.Raw == "" {
				continue
			}
			got := show(trial.Event(editEvent(c.Doc, []string{"set\x02" + c.Path + "\x02-7"})))
			found := false
			for i := range c.Doc {
				rest, ok := strings.CutPrefix(c.Doc[i:], c.Raw)
				found = found || ok && strings.HasPrefix(got, c.Doc[:i]+"-7"+rest+" + 1 to")
			}
			if !found {
				t.Errorf("%s: %q in %q: %q", language, c.Path, c.Doc, got)
			}
		}
	}
}

// TestEditsAgree: on random events, random edits have the same result in every language.
func TestEditsAgree(t *testing.T) {
	holdAgreement(t, probes, randomEdits)
	// In a text that is not JSON, searches of different design find different values.
	holdAgreement(t, []string{"go", "rs"}, randomDamage)
	holdAgreement(t, []string{"c", "ts"}, randomDamage)
}

func holdAgreement(t *testing.T, languages []string, random func(*rand.Rand) plugins.Event) {
	t.Helper()
	var trials []*plugins.Trial
	for _, language := range languages {
		trials = append(trials, try(t, probe(t, language)))
	}
	r := rand.New(rand.NewPCG(3, 4))
	edited := 0
	for range 2000 {
		ev := random(r)
		want := show(trials[0].Event(ev))
		for i, trial := range trials {
			if got := show(trial.Event(ev)); got != want {
				t.Fatalf("%q with %q: %q in %s, %q in %s", ev.Payload, ev.Source, want, languages[0], got, languages[i])
			}
		}
		if !strings.HasPrefix(want, "pass") {
			edited++
		}
	}
	if edited < 200 {
		t.Errorf("%d of the events were edited", edited)
	}
}

var editNames = []string{
	"a", "b", "c", "", "0", "1", "2", `a\.b`, `\\`, `"`, `a\\"`, "é", "日本", "😀", "\n", "\x01", "{", "},", "a:b",
}

// randomEdits returns an event of random JSON with up to six edits.
func randomEdits(r *rand.Rand) plugins.Event {
	var doc strings.Builder
	randomValue(&doc, r, 4)
	return makeEdits(r, doc.String())
}

// randomDamage is like randomEdits, with an event that is often not JSON.
func randomDamage(r *rand.Rand) plugins.Event {
	var doc strings.Builder
	randomValue(&doc, r, 4)
	text := doc.String()
	for range r.IntN(3) + 1 {
		at := r.IntN(len(text))
		damage := []string{"", "{", "}", "[", "]", ",", ":", `"`, `\`, " "}[r.IntN(10)]
		text = text[:at] + damage + text[min(len(text), at+r.IntN(3)):]
		if text == "" {
			text = " "
		}
	}
	return makeEdits(r, strings.ToValidUTF8(text, "?"))
}

func makeEdits(r *rand.Rand, text string) plugins.Event {
	values := []string{"1", `"x"`, " [1,2] ", `{"a":{"b":1}}`, "NaN", "{", "", "1 2", `{"0":[]}`}
	var ops []string
	for range 1 + r.IntN(6) {
		path := editNames[r.IntN(len(editNames))]
		for range r.IntN(3) {
			path += "." + editNames[r.IntN(len(editNames))]
		}
		op := [][]string{
			{"set", path, values[r.IntN(len(values))]},
			{"set_string", path, editNames[r.IntN(len(editNames))] + "\x1f\t"},
			{"remove", path, ""},
			{"rename", path, strings.ReplaceAll(editNames[r.IntN(len(editNames))], `\`, "")},
		}[r.IntN(4)]
		ops = append(ops, strings.Join(op, "\x02"))
	}
	return editEvent(text, ops)
}

// randomValue writes a JSON value with white space, and with names that are hard to find.
func randomValue(b *strings.Builder, r *rand.Rand, depth int) {
	gap := func() { b.WriteString([]string{"", "", "", " ", "\n\t", "\r\n "}[r.IntN(6)]) }
	name := func() string {
		s := strings.ReplaceAll(editNames[r.IntN(len(editNames))], `\.`, ".")
		s = strings.ReplaceAll(s, `\\`, `\`)
		if r.IntN(4) == 0 {
			if quoted := strconv.QuoteToASCII(s); json.Valid([]byte(quoted)) {
				return quoted
			}
		}
		quoted, _ := json.Marshal(s)
		return string(quoted)
	}
	gap()
	kind := r.IntN(4)
	if depth == 4 {
		kind = 3
	} else if depth == 0 {
		kind = 0
	}
	switch n := r.IntN(5); kind {
	case 0:
		b.WriteString([]string{
			"0", "-1.5e3", "true", "null", "NaN", "-Infinity", `"\ud83d\ude00\\"`, `"},{\""`,
		}[r.IntN(8)])
	case 1:
		b.WriteString(name())
	case 2:
		b.WriteByte('[')
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			randomValue(b, r, depth-1)
		}
		b.WriteByte(']')
	default:
		b.WriteByte('{')
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			gap()
			b.WriteString(name())
			gap()
			b.WriteByte(':')
			randomValue(b, r, depth-1)
		}
		b.WriteByte('}')
	}
	gap()
}
