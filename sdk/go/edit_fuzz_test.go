package edgerelay

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzEdits compares edits with the same edits of the decoded payload, and checks that the other bytes stay.
func FuzzEdits(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range uint64(300) {
		var b strings.Builder
		randomJSON(&b, r, 4)
		f.Add(b.String(), i)
	}
	f.Fuzz(func(t *testing.T, doc string, seed uint64) {
		model, ok := decode(doc)
		if !ok {
			editAnything(doc, seed)
			return
		}
		r := rand.New(rand.NewPCG(seed, 0))
		new(Host).Event(func(e *Event) Verdict {
			for range 1 + r.IntN(6) {
				op := randomEdit(r, model)
				before := string(e.EditedPayload())
				want := editModel(&model, op)
				if ok := apply(e, op.spell()); ok != want {
					t.Fatalf("%q on %s: %v, want %v", op.spell(), before, ok, want)
				}
				after := string(e.EditedPayload())
				if got, ok := decode(after); !ok || !reflect.DeepEqual(got, model) {
					t.Fatalf("%q on %s gives %s, want %v", op.spell(), before, after, model)
				}
				if want {
					checkRest(t, op, before, after)
				} else if before != after {
					t.Fatalf("%q is refused, but changed %s to %s", op.spell(), before, after)
				}
			}
			return Pass
		}, "g", doc)
	})
}

// edit is an edit of a decoded payload: the name at the end of path is set, removed or renamed.
type edit struct {
	do   string
	path []string
	text string // the new value or name
}

func (e edit) spell() []string {
	var path strings.Builder
	for i, name := range e.path {
		path.WriteString(escapeName(name))
		if i < len(e.path)-1 || name == "" {
			path.WriteByte('.')
		}
	}
	return []string{e.do, path.String(), e.text}
}

// decode decodes a text. It reports false for a text whose meaning is not the same for all readers.
func decode(text string) (v any, ok bool) {
	if !utf8.ValidString(text) || !json.Valid([]byte(text)) || duplicates(json.NewDecoder(strings.NewReader(text))) {
		return nil, false
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	return v, d.Decode(&v) == nil
}

// duplicates reports whether an object of the next value has a name twice.
func duplicates(d *json.Decoder) bool {
	open, err := d.Token()
	if err != nil {
		return true
	}
	names := map[json.Token]bool{}
	switch open {
	case json.Delim('{'), json.Delim('['):
		for d.More() {
			if open == json.Delim('{') {
				name, err := d.Token()
				if err != nil || names[name] {
					return true
				}
				names[name] = true
			}
			if duplicates(d) {
				return true
			}
		}
		_, err = d.Token()
	}
	return err != nil
}

// randomEdit picks an edit, most often of a value that exists.
func randomEdit(r *rand.Rand, v any) edit {
	e := edit{do: []string{"set", "set_string", "remove", "rename"}[r.IntN(4)]}
	for {
		var names []string
		switch c := v.(type) {
		case map[string]any:
			for name := range c {
				names = append(names, name)
			}
		case []any:
			for i := range c {
				names = append(names, strconv.Itoa(i))
			}
		}
		if len(names) == 0 || r.IntN(8) == 0 {
			e.path = append(e.path, randomNames[r.IntN(len(randomNames))])
			break
		}
		// Sorted, because the order of a map would make failures unrepeatable.
		name := least(names, r.IntN(len(names)))
		e.path = append(e.path, name)
		if r.IntN(3) == 0 {
			break
		}
		v, _ = child(v, name)
	}
	switch e.do {
	case "set":
		var b strings.Builder
		randomJSON(&b, r, 1)
		e.text = b.String()
	case "set_string", "rename":
		e.text = randomNames[r.IntN(len(randomNames))]
	}
	return e
}

// least returns the name that n of the names precede.
func least(names []string, n int) string {
	for _, name := range names {
		before := 0
		for _, other := range names {
			if other < name {
				before++
			}
		}
		if before == n {
			return name
		}
	}
	panic("names are unique")
}

func child(v any, name string) (any, bool) {
	switch c := v.(type) {
	case map[string]any:
		v, ok := c[name]
		return v, ok
	case []any:
		if i, err := strconv.ParseUint(name, 10, 30); err == nil && len(name) <= 9 && int(i) < len(c) {
			return c[i], true
		}
	}
	return nil, false
}

// editModel makes an edit of a decoded value and reports whether it can be made.
func editModel(v *any, e edit) bool {
	name := e.path[0]
	if len(e.path) > 1 {
		inner, ok := child(*v, name)
		if !ok {
			return false
		}
		ok = editModel(&inner, edit{e.do, e.path[1:], e.text})
		switch c := (*v).(type) {
		case map[string]any:
			c[name] = inner
		case []any:
			i, _ := strconv.Atoi(name)
			c[i] = inner
		}
		return ok
	}
	old, exists := child(*v, name)
	var value any = e.text
	if e.do == "set" {
		value, _ = decode(e.text)
	}
	switch c := (*v).(type) {
	case map[string]any:
		_, taken := c[e.text]
		switch {
		case e.do == "set" || e.do == "set_string":
			c[name] = value
			return true
		case !exists || e.do == "rename" && taken:
			return false
		}
		delete(c, name)
		if e.do == "rename" {
			c[e.text] = old
		}
		return true
	case []any:
		i, _ := strconv.Atoi(name)
		switch {
		case !exists || e.do == "rename":
			return false
		case e.do == "remove":
			*v = append(c[:i:i], c[i+1:]...)
		default:
			c[i] = value
		}
		return true
	}
	return false
}

// checkRest checks that an edit left the bytes around it as they were.
func checkRest(t *testing.T, e edit, before, after string) {
	t.Helper()
	from, to, exists := find([]byte(before), e.spell()[1])
	value := before[from:to]
	start, end, member := memberName([]byte(before), from)
	insertion := e.text
	if e.do == "set_string" {
		insertion = string(appendQuoted(nil, e.text))
	}
	ok := false
	switch {
	case e.do == "rename":
		ok = after == before[:start]+string(appendQuoted(nil, e.text))+before[end:]
	case e.do == "remove":
		if member {
			from = start
		}
		head, tail := commonEnds(before, after)
		ok = len(before)-len(after) >= len(value) && head <= from+len(after) &&
			strings.Trim(before[min(head, from):from], ", \n\t\r") == "" &&
			strings.Trim(before[to:max(to, len(before)-tail)], ", \n\t\r") == ""
	case exists:
		ok = after == before[:from]+insertion+before[to:]
	default:
		head, tail := commonEnds(before, after)
		ok = head+tail >= len(before) && strings.Contains(after, ":"+insertion)
	}
	if !ok {
		t.Fatalf("%q changed more than it should: from %s to %s", e.spell(), before, after)
	}
}

// commonEnds returns how many bytes at the beginning and at the end two texts share.
func commonEnds(a, b string) (head, tail int) {
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	for tail < len(a) && tail < len(b) && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	return head, tail
}

// editAnything makes edits of a text that is not JSON: no edit may panic.
func editAnything(doc string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	res := new(Host).Event(func(e *Event) Verdict {
		for range 4 {
			op := randomEdit(r, map[string]any{"a": []any{1}, "": 1})
			apply(e, op.spell())
			e.Insert(`"x":1`)
		}
		return Pass
	}, "g", doc)
	if res.Err != nil {
		panic(fmt.Sprintf("%q: %v", doc, res.Err))
	}
}

var randomNames = []string{
	"a", "b", "c", "", "0", "1", "a.b", `\`, `"`, `a\"`, "é", "日本", "😀", "\n", "\x01", "long name with spaces", "a:b",
	"{", "},", `\\"`,
}

// randomJSON writes a value with white space, escapes and names that are hard to find.
func randomJSON(b *strings.Builder, r *rand.Rand, depth int) {
	gap := func() { b.WriteString([]string{"", "", "", " ", "\n\t", " \r\n "}[r.IntN(6)]) }
	text := func(s string) {
		if r.IntN(3) == 0 {
			quoted := strconv.QuoteToASCII(s)
			if json.Valid([]byte(quoted)) {
				b.WriteString(quoted)
				return
			}
		}
		b.Write(appendQuoted(nil, s))
	}
	kind := r.IntN(8)
	if depth > 3 {
		kind = 6
	}
	gap()
	switch {
	case kind == 0:
		b.WriteString([]string{"0", "-1.5e3", "12345678901234567890", "1.0"}[r.IntN(4)])
	case kind == 1:
		b.WriteString([]string{"true", "false", "null"}[r.IntN(3)])
	case kind < 4 || depth == 0:
		text(randomNames[r.IntN(len(randomNames))] + randomNames[r.IntN(len(randomNames))])
	case kind == 4:
		b.WriteByte('[')
		for i := range r.IntN(4) {
			if i > 0 {
				b.WriteByte(',')
			}
			randomJSON(b, r, depth-1)
		}
		gap()
		b.WriteByte(']')
	default:
		b.WriteByte('{')
		for i, n := range r.Perm(len(randomNames))[:r.IntN(5)] {
			if i > 0 {
				b.WriteByte(',')
			}
			gap()
			text(randomNames[n])
			gap()
			b.WriteByte(':')
			randomJSON(b, r, depth-1)
		}
		gap()
		b.WriteByte('}')
	}
	gap()
}
