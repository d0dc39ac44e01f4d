package publish

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay/internal/asgi"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, body, want, pointer string
	}{
		{"message", `{"group": "a", "type": "x.y", "data": {"n": 1}}`, `a x.y {"n": 1}`, ""},
		{"message without data", `{"group": "a", "type": "x.y"}`, `a x.y {}`, ""},
		{"members in another order", ` { "data":{}, "type":"t" , "group":"a" } `, `a t {}`, ""},
		{"several groups", `{"groups": ["a", "b"], "type": "t"}`, `a,b t {}`, ""},
		{"text", `{"group": "a", "text": "{\"a\": NaN} \u00e9"}`, `a  {"a": NaN} é`, ""},
		{"batch", `{"messages": [{"group": "a", "text": ""}, {"group": "b", "type": "t"}]}`, `a  ;b t {}`, ""},
		{"binary", `{"group": "a", "type": "t", "data": {"b": "AAE="}, "binary": ["b"]}`, `a t {"b": "AAE="} b`, ""},
		{"binary before data", `{"binary": ["b"], "group": "a", "type": "t", "data": {"b": ""}}`, `a t {"b": ""} b`, ""},
		{"the type again in data", `{"group": "a", "type": "t", "data": {"type": "t"}}`, `a t {"type": "t"}`, ""},
		{"a surrogate pair", `{"group": "a", "text": "\ud83d\ude00"}`, `a  😀`, ""},
		{"the greatest integers", `{"group": "a", "type": "t", "data": {"n": [18446744073709551615, -9223372036854775808]}}`, `18446744073709551615`, ""},

		{"no JSON", `x`, "JSON object", ""},
		{"empty", ``, "JSON object", ""},
		{"list", `[]`, "JSON object", ""},
		{"no group", `{"type": "t"}`, "no group", ""},
		{"no type", `{"group": "a"}`, "neither type nor text", ""},
		{"unknown member", `{"group": "a", "typ": "t"}`, "unknown member", "/typ"},
		{"member given twice", `{"group": "a", "group": "b", "type": "t"}`, "given twice", "/group"},
		{"member given twice by an escape", `{"group": "a", "gr\u006fup": "b"}`, "given twice", "/group"},
		{"member of data given twice", `{"group": "a", "type": "t", "data": {"l": [{"a/b": 1, "a/b": 2}]}}`, "given twice", "/data/l/0/a~1b"},
		{"invalid group", `{"group": "a b", "type": "t"}`, "not a group name", "/group"},
		{"invalid group of several", `{"groups": ["a", ""], "type": "t"}`, "not a group name", "/groups/1"},
		{"group that is a number", `{"group": 7, "type": "t"}`, "expected a string", "/group"},
		{"groups that are a string", `{"groups": "a", "type": "t"}`, "list of names", "/groups"},
		{"no groups", `{"groups": [], "type": "t"}`, "at least one", "/groups"},
		{"repeated group", `{"groups": ["a", "a"], "type": "t"}`, "given twice", "/groups/1"},
		{"group and groups", `{"group": "a", "groups": ["b"], "type": "t"}`, "both given", "/groups"},
		{"too many groups", `{"groups": ["a", "b", "c", "d", "e"], "type": "t"}`, "more than 4 publications", ""},
		{"too many messages", `{"messages": [` + strings.Repeat(`{"group": "a", "type": "t"},`, 4) + `{"group": "a", "type": "t"}]}`, "more than 4 publications", ""},
		{"type and text", `{"group": "a", "type": "t", "text": ""}`, "text is for messages without type", "/text"},
		{"binary of a text", `{"group": "a", "text": "", "binary": []}`, "text has no members", "/binary"},
		{"internal.message as a type", `{"group": "a", "type": "internal.message", "data": {}}`, `"text"`, "/type"},
		{"type of a private method", `{"group": "a", "type": "_x"}`, "begins with _", "/type"},
		{"type with a space", `{"group": "a", "type": "a b"}`, "ASCII letters", "/type"},
		{"data that is a list", `{"group": "a", "type": "t", "data": []}`, "must be an object", "/data"},
		{"another type in data", `{"group": "a", "type": "t", "data": {"type": "u"}}`, "differs", "/data/type"},
		{"reserved member", `{"group": "a", "type": "t", "data": {"edgerelay_sender": ""}}`, "reserved", "/data/edgerelay_sender"},
		{"reserved member of Channels", `{"group": "a", "type": "t", "data": {"__asgi_channel__": ""}}`, "reserved", "/data/__asgi_channel__"},
		{"binary without the member", `{"group": "a", "type": "t", "binary": ["b"]}`, `no member "b"`, "/binary"},
		{"binary that is no base64", `{"group": "a", "type": "t", "data": {"b": "AA"}, "binary": ["b"]}`, "base64", "/data/b"},
		{"binary that is no string", `{"group": "a", "type": "t", "data": {"b": 1}, "binary": ["b"]}`, "base64", "/data/b"},
		{"id with a space", `{"group": "a", "type": "t", "id": "a b"}`, "printable", "/id"},
		{"empty id", `{"group": "a", "type": "t", "id": ""}`, "1 to 200", "/id"},
		{"second message at fault", `{"messages": [{"group": "a", "type": "t"}, {"group": "a", "type": "t", "data": 1}]}`, "must be an object", "/messages/1/data"},
		{"second message without group", `{"messages": [{"group": "a", "type": "t"}, {"type": "t"}]}`, "no group", "/messages/1"},
		{"message that is a string", `{"messages": ["a"]}`, "must be an object", "/messages/0"},
		{"empty batch", `{"messages": []}`, "at least one", "/messages"},
		{"members beside a batch", `{"group": "a", "messages": [{"group": "a", "text": ""}]}`, "beside messages", "/group"},
		{"data after the object", `{"group": "a", "text": ""} {}`, "after the JSON value", ""},
		{"cut off", `{"group": "a", "text": "`, "ends", "/text"},
		{"NaN", `{"group": "a", "type": "t", "data": {"n": NaN}}`, "expected a value", "/data/n"},
		{"infinity", `{"group": "a", "type": "t", "data": {"n": 1e999}}`, "64 bits", "/data/n"},
		{"integer beyond 64 bits", `{"group": "a", "type": "t", "data": {"n": 18446744073709551616}}`, "64 bits", "/data/n"},
		{"number with a leading zero", `{"group": "a", "type": "t", "data": {"n": 01}}`, "number of JSON", "/data/n"},
		{"not UTF-8", "{\"group\": \"a\", \"text\": \"\xff\"}", "UTF-8", ""},
		{"half a surrogate pair", `{"group": "a", "text": "\ud83d"}`, "surrogate", "/text"},
		{"two first halves", `{"group": "a", "text": "\ud83d\ud83d"}`, "surrogate", "/text"},
		{"a second half alone", `{"group": "a", "type": "t", "data": {"s": "\ude00"}}`, "surrogate", "/data/s"},
		{"control character", "{\"group\": \"a\", \"text\": \"\n\"}", "escape control characters", "/text"},
		{"unknown escape", `{"group": "a", "text": "\x"}`, "escape of JSON", "/text"},
		{"comment", `{"group": "a", /* */ "text": ""}`, "name of a member", ""},
		{"comma at the end", `{"group": "a", "text": "",}`, "name of a member", ""},
		{"deep nesting", `{"group": "a", "type": "t", "data": {"d": ` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}}`, "more than 64 nested", "/data/d" + strings.Repeat("/0", 62)},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, _, err := parse([]byte(c.body), 4)
			got, pointer := describe(list), ""
			if err != nil {
				got = err.Error()
				if p := invalid(err); p.Reason == ReasonInvalid {
					pointer = p.Pointer
				}
			}
			if err == nil && c.pointer == "" && strings.HasPrefix(c.want, "a") {
				if got != c.want {
					t.Errorf("%s becomes %q, want %q", c.body, got, c.want)
				}
			} else if !strings.Contains(got, c.want) || pointer != c.pointer {
				t.Errorf("%s becomes %q at %q, want %q at %q", c.body, got, pointer, c.want, c.pointer)
			}
		})
	}
}

// describe writes publications as groups, type, text and binary members.
func describe(list []publication) string {
	var parts []string
	for _, p := range list {
		text := strings.Join(p.groups, ",") + " " + p.message.Type + " " + string(p.message.Text)
		if len(p.message.Binary) > 0 {
			text += " " + strings.Join(p.message.Binary, ",")
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ";")
}

// Whatever passes is JSON to encoding/json as well, with the same groups, types and members.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"group": "a", "type": "x.y", "data": {"n": [1, -0.5e3, "\ud83d\ude00", null, true]}, "id": "1"}`,
		`{"messages": [{"groups": ["a", "b"], "text": "\u0000"}]}`,
		`{"group": "a", "type": "t", "data": {"b": "AAE="}, "binary": ["b"]}`,
		`{"items": [{"channel": "a", "formats": {"ws-message": {"content": "x"}}}]}`,
		"{\"group\": \"a\", \"text\": \"\xff\"}", `{"a": ` + strings.Repeat("[", 70), `{"group": "a", "text": 1e999}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		list, kind, err := parse(body, 100)
		if err != nil {
			var located *locatedError
			if !errors.As(err, &located) && !errors.As(err, new(tooManyError)) {
				t.Errorf("%q: the error %v has no place", body, err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatalf("%q passes and is no JSON", body)
		}
		count := 0
		for _, p := range list {
			count += len(p.groups)
			if p.message.Type != "" && !json.Valid(p.message.Text) {
				t.Errorf("%q: the data %q is no JSON", body, p.message.Text)
			}
			if _, err := asgi.Object(&p.message); err != nil {
				t.Errorf("%q: no layer can send the data: %v", body, err)
			}
		}
		if kind != formGRIP && (count == 0 || count > 100) {
			t.Errorf("%q has %d publications", body, count)
		}
	})
}
