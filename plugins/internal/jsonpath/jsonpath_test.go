package jsonpath

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

const doc = `{"status": "failed", "n": -1.5e3, "esc\"aped": "a\u00e9\"b", "dot.ted": 7, "": {"x": null},
 "event_data": {"res": [{"stdout": "a}]"}, [1, [2, 3]], true]}, "status": "second", "last":false}`

func TestFind(t *testing.T) {
	for path, want := range map[string]string{
		"status":                    `"failed"`,
		"n":                         `-1.5e3`,
		`esc"aped`:                  `"a\u00e9\"b"`,
		`dot\.ted`:                  `7`,
		"event_data.res.0.stdout":   `"a}]"`,
		"event_data.res.1.1.0":      `2`,
		"event_data.res.2":          `true`,
		"last":                      `false`,
		"":                          doc,
		"missing":                   "",
		"event_data.res.3":          "",
		"event_data.res.x":          "",
		"event_data.res.9999999999": "",
		"status.x":                  "",
	} {
		from, to, ok := Find([]byte(doc), []byte(path))
		if ok != (want != "") || doc[from:to] != want {
			t.Errorf("%q: %q %v, want %q", path, doc[from:to], ok, want)
		}
	}
	if got := Text([]byte(`"a\u00e9\"b"`)); string(got) != `aé"b` {
		t.Errorf("Text gives %q", got)
	}
}

func TestFindOnBrokenText(t *testing.T) {
	for _, s := range []string{
		"", "{", `{"a"`, `{"a":`, `{"a":"`, `{"a":"\`, `{"a":[`, `{"b" 1,"a":2}`, `{"b":}`, `[`, `[1`, "\"", "tru",
		`{"b":{"c":"}`,
	} {
		Find([]byte(s), []byte("a"))
		Find([]byte(s), []byte("a.b.0"))
		Find([]byte(s), []byte("0"))
		Find([]byte(s), nil)
	}
}

// TestFindBehindStrings: the member behind a string is found, for any content and length of the string.
func TestFindBehindStrings(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		b := make([]byte, rnd.IntN(150))
		for i := range b {
			b[i] = `x\\""yz,}`[rnd.IntN(9)]
			if rnd.IntN(3) > 0 {
				b[i] = 'x'
			}
		}
		doc, err := json.Marshal(map[string]string{"a" + string(b): string(b), "b": "found"})
		if err != nil {
			t.Fatal(err)
		}
		from, to, ok := Find(doc, []byte("b"))
		if !ok || string(doc[from:to]) != `"found"` {
			t.Fatalf("in %s: %q", doc, doc[from:to])
		}
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	d, p := []byte(strings.Replace(doc, `esc\"aped`, "plain", 1)), []byte("event_data.res.0.stdout")
	if n := testing.AllocsPerRun(100, func() { Find(d, p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzFind compares Find with encoding/json on valid texts, and checks that other texts cause no panic.
func FuzzFind(f *testing.F) {
	f.Add([]byte(doc), "event_data.res.1.1.0")
	f.Add([]byte(`[{"a":1},{"a":[]}]`), "1.a")
	f.Fuzz(func(t *testing.T, doc []byte, path string) {
		from, to, ok := Find(doc, []byte(path))
		if !json.Valid(doc) || strings.Contains(path, `\`) {
			return
		}
		var v any
		if err := json.Unmarshal(doc, &v); err != nil {
			return // too deep
		}
		want, found := v, true
		if path != "" {
			// A final empty name cannot be told from the end of the path.
			if strings.HasSuffix(path, ".") {
				return
			}
			for name := range strings.SplitSeq(path, ".") {
				switch c := want.(type) {
				case map[string]any:
					want, found = c[name]
				case []any:
					i, err := strconv.ParseUint(name, 10, 31)
					if found = err == nil && len(name) <= 9 && !strings.HasPrefix(name, "+") &&
						i < uint64(len(c)); found {
						want = c[i]
					}
				default:
					found = false
				}
				if !found {
					break
				}
			}
		}
		if found != ok {
			if duplicates(doc) {
				return
			}
			t.Fatalf("%q in %q: found is %v, want %v", path, doc, ok, found)
		}
		if !ok {
			return
		}
		var got any
		if err := json.Unmarshal(doc[from:to], &got); err != nil {
			t.Fatalf("%q in %q: %q is not JSON", path, doc, doc[from:to])
		}
		if !reflect.DeepEqual(got, want) && !duplicates(doc) {
			t.Fatalf("%q in %q: %v, want %v", path, doc, got, want)
		}
	})
}

// duplicates reports whether an object may contain a member twice (encoding/json takes the last occurrence, Find the
// first) or bytes that encoding/json replaces.
func duplicates(doc []byte) bool {
	var v any
	if json.Unmarshal(doc, &v) != nil {
		return true
	}
	compact, err := json.Marshal(v)
	if err != nil {
		return true
	}
	return strings.Count(string(doc), `":`)+strings.Count(string(doc), `" :`) != strings.Count(string(compact), `":`) ||
		strings.ContainsRune(string(compact), '\ufffd')
}
