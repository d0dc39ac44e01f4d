package channels

import (
	"encoding/json"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

// Constants stand where the rule has them, as the members of a dict in a consumer do.
func TestRuleConstants(t *testing.T) {
	constant := func(name, value string) Member { return Member{New: name, Constant: json.RawMessage(value)} }
	member := func(name string) Member { return Member{New: name, Old: name} }
	const event = `{"type": "x", "a": 1, "b": [2, null]}`
	for _, c := range []struct {
		name string
		rule Rule
		want string
	}{
		{
			"before",
			Rule{Form: JSON, Members: []Member{constant("kind", `"order"`), constant("v", `2`), member("a")}},
			`{"kind": "order", "v": 2, "a": 1}`,
		},
		{
			"between and after",
			Rule{Form: JSON, Members: []Member{member("a"), constant("k", `{"x":"ä"}`), member("b"), constant("l", `false`)}},
			`{"a": 1, "k": {"x": "\u00e4"}, "b": [2, null], "l": false}`,
		},
		{"before those of set", Rule{
			Form: JSON, Members: []Member{member("a"), constant("k", `1`)},
			Constants: []Constant{{"l", json.RawMessage(`2`)}},
		}, `{"a": 1, "k": 1, "l": 2}`},
		{"alone", Rule{Form: JSON, Members: []Member{constant("kind", `"reload"`)}}, `{"kind": "reload"}`},
		{"alone, with set", Rule{
			Form: JSON, Members: []Member{constant("kind", `"reload"`)},
			Constants: []Constant{{"l", json.RawMessage(`2`)}},
		}, `{"kind": "reload", "l": 2}`},
		{"a text", Rule{Form: Fixed, Fixed: "started"}, `started`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.rule.Type = "x"
			rule, err := c.rule.compile()
			if err != nil {
				t.Fatal(err)
			}
			got, frame, err := rule.appendFrame([]byte("before "), "g", []byte(event))
			if err != nil || frame != relay.TextFrame || string(got) != "before "+c.want {
				t.Errorf("%s, kind %d, %v; want %s", got, frame, err, c.want)
			}
		})
	}
	for name, rule := range map[string]Rule{
		"no JSON":           {Form: JSON, Members: []Member{constant("kind", `order`)}},
		"empty":             {Form: JSON, Members: []Member{constant("kind", ``)}},
		"twice":             {Form: JSON, Members: []Member{constant("a", `1`), member("a")}},
		"not of the object": {Form: Text, Members: []Member{constant("a", `1`)}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := rule.compile(); err == nil {
				t.Error("the rule is accepted")
			}
		})
	}
}
