package loosejson

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestMembers(t *testing.T) {
	list, ok := Members([]byte(` { "group" : "g", "pay\u006coad": {"a": NaN, "b": [-Infinity , 1e3]}, "x" : "}" } `))
	if !ok || len(list) != 3 {
		t.Fatalf("%v %q", ok, list)
	}
	for i, want := range []string{`group="g"`, `payload={"a": NaN, "b": [-Infinity , 1e3]}`, `x="}"`} {
		if got := list[i].Name + "=" + string(list[i].Value); got != want {
			t.Errorf("member %d: %s, want %s", i, got, want)
		}
	}
	if list, ok := Members([]byte(`{}`)); !ok || list != nil {
		t.Error(list, ok)
	}
	for _, text := range []string{
		"", "{", `{"a"}`, `{"a":1,}`, `{"a":1}}`, `{"a":1} x`, `[1]`, `{a:1}`, `{"a":nan}`, `{"a":+Infinity}`,
		`{"a":"\x"}`, "{\"a\":\"\n\"}", `{"a":01}`, `{"a":"b}`, `{"a\`, `{"a":[1 2]}`, `{"a":"\ud8`, `NaN`,
		strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1),
	} {
		if list, ok := Members([]byte(text)); ok {
			t.Errorf("%.50q is taken as the object %q", text, list)
		}
	}
}

func TestElements(t *testing.T) {
	list, ok := Elements([]byte(`[1, {"a":NaN} ,[ ]]`))
	if !ok || string(bytes.Join(list, []byte("|"))) != `1|{"a":NaN}|[ ]` {
		t.Errorf("%v %q", ok, list)
	}
	if list, ok := Elements([]byte("{}")); ok {
		t.Errorf("%q", list)
	}
}

func TestCutObject(t *testing.T) {
	for text, want := range map[string]string{
		` {"a":"}"} {"b":NaN}`: `{"a":"}"}|{"b":NaN}`,
		`{}`:                   `{}|`,
		`{} x`:                 `{}|x`,
		`[1]`:                  `no`,
		`{"a":`:                `no`,
		``:                     `no`,
	} {
		got := "no"
		if object, rest, ok := CutObject([]byte(text)); ok {
			got = string(object) + "|" + string(rest)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestSame(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{`{"a": NaN, "b": "x y"}`, `{"a":NaN,"b":"x y"}`, true},
		{`{"a":"x y"}`, `{"a":"xy"}`, false},
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`, false},
		{`1 2`, `12`, false},
		{`no JSON`, `no  JSON`, false},
		{`"a\" b"`, ` "a\" b" `, true},
		{``, ``, true},
	} {
		if got := Same([]byte(c.a), []byte(c.b)); got != c.same {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
	}
}

// On texts without Python's numbers, Valid agrees with encoding/json.
func FuzzValid(f *testing.F) {
	for _, text := range []string{
		`{"a":[1,-2.5e3,true,null,"\u00e9\n"]}`, `[NaN]`, `{"a":-Infinity}`, `{"a":1,"a":2}`, "\"\x00\"", `[1,]`, `"\`, ` 0 `,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		valid := Valid(text)
		if json.Valid(text) && !valid {
			t.Fatalf("%q is JSON", text)
		}
		if valid && !json.Valid(text) && !bytes.Contains(text, []byte("NaN")) && !bytes.Contains(text, []byte("Infinity")) {
			t.Fatalf("%q is no JSON", text)
		}
		if members, ok := Members(text); ok {
			for _, m := range members {
				if !valid || !Valid(m.Value) {
					t.Fatalf("%q has the member %q", text, m.Value)
				}
			}
		}
		if !valid {
			return
		}
		if short := compact(text); !Valid(short) || !Same(text, short) || !bytes.Equal(compact(short), short) {
			t.Fatalf("%q becomes %q", text, short)
		}
	})
}
