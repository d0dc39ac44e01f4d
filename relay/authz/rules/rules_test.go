package rules

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

func claims(t testing.TB, text string) map[string]any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var claims map[string]any
	if err := dec.Decode(&claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestRulesMatch(t *testing.T) {
	const token = `{"org": "acme", "n": 7, "roles": ["a", "b*"], "realm": {"groups": ["x"]}, "dotted.name": "d",
		"empty": "", "none": null, "object": {}, "ok": true, "big": 12345678901234567890}`
	for _, c := range []struct {
		rule        string
		match, deny []string
	}{
		{"*", []string{"anything", "a-b"}, nil},
		{"orders-{user}", []string{"orders-42"}, []string{"orders-4", "orders-421", "xorders-42", "orders-"}},
		{"orders-{user}-*", []string{"orders-42-", "orders-42-x"}, []string{"orders-42", "orders-421-x"}},
		{"*-{user.org}", []string{"x-acme", "-acme"}, []string{"acme", "x-acme2"}},
		{"role-{user.roles}", []string{"role-a", "role-b*"}, []string{"role-bc", "role-b", "role-"}},
		{"{user.roles}-{user.roles}", []string{"a-a", "a-b*", "b*-a"}, []string{"a-c", "b-b"}},
		{"g-{user.realm.groups}", []string{"g-x"}, []string{"g-"}},
		{"{user.dotted.name}", []string{"d"}, []string{""}},
		{"n{user.n}{user.ok}{user.big}", []string{"n7true12345678901234567890"}, []string{"n7"}},
		{"x-{user.empty}", nil, []string{"x-"}},
		{"x-{user.none}", nil, []string{"x-", "x-null"}},
		{"x-{user.object}", nil, []string{"x-"}},
		{"x-{user.missing}", nil, []string{"x-"}},
		{"x-{user.org.deeper}", nil, []string{"x-", "x-acme"}},
		{"a*b*c", []string{"abc", "axbyc", "abbc"}, []string{"ab", "acb", "abcd"}},
		{"a**", []string{"a", "ab"}, []string{"b"}},
		{"aa*aa", []string{"aaaa", "aaxaa"}, []string{"aaa", "aa"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			r, err := Parse(c.rule)
			if err != nil {
				t.Fatal(err)
			}
			patterns := r.Expand(UserValues("42", claims(t, token)))
			for _, group := range c.match {
				if !patterns.Match(group) {
					t.Errorf("%q does not match %q", c.rule, group)
				}
			}
			for _, group := range c.deny {
				if patterns.Match(group) {
					t.Errorf("%q matches %q", c.rule, group)
				}
			}
		})
	}
}

func TestMalformedRules(t *testing.T) {
	for _, text := range []string{"", "a{", "a}", "{}", "{a", "{a{b}}", "{a b}", "x{*}"} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
	for text, ok := range map[string]bool{"{user}": true, "{user.a.b}": true, "{sub}": false, "{users}": false} {
		r, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.CheckUserPlaceholders(); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A hostile list of values cannot fill the memory.
func TestPatternsAreBounded(t *testing.T) {
	list := strings.TrimSuffix(strings.Repeat(`"x",`, 5000), ",")
	c := claims(t, `{"l": [`+list+`]}`)
	r, err := Parse("{user.l}{user.l}{user.l}", "last")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Expand(UserValues("1", c))); n > maxPatterns {
		t.Errorf("%d patterns, want at most %d", n, maxPatterns)
	}
	if n := len(NewPatterns(make([]string, 5000))); n != 0 {
		t.Errorf("empty patterns: %d", n)
	}
}

// FuzzMatch compares patterns with regular expressions.
func FuzzMatch(f *testing.F) {
	f.Add("orders-{user}-*", "7*", "orders-7*-1")
	f.Add("a*b*c", "", "abc")
	f.Fuzz(func(t *testing.T, rule, user, group string) {
		if strings.ContainsAny(group+user, "\n") {
			return
		}
		r, err := Parse(rule)
		if err != nil {
			return
		}
		got := r.Expand(UserValues(user, nil)).Match(group)
		expression := strings.Builder{}
		missing := false
		for _, s := range r.rules[0] {
			switch s.kind {
			case literal:
				expression.WriteString(regexp.QuoteMeta(s.text))
			case star:
				expression.WriteString("(?s:.*)")
			case placeholder:
				missing = missing || s.text != "user" || user == ""
				expression.WriteString(regexp.QuoteMeta(user))
			}
		}
		compiled, err := regexp.Compile("^(?s:" + expression.String() + ")$")
		if err != nil {
			return // not UTF-8
		}
		if want := !missing && compiled.MatchString(group); got != want {
			t.Errorf("rule %q, user %q, group %q: %v, want %v", rule, user, group, got, want)
		}
	})
}
