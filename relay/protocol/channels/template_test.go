package channels_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

func TestTemplates(t *testing.T) {
	values := map[string][]string{
		"user": {"7"}, "room": {"a-b"}, "user.teams": {"x", "y"}, "user.none": {}, "empty": {""}, "user.dash": {"x-y"},
		"http.x": {"q"},
	}
	lookup := func(name string) []string { return values[name] }
	for source, want := range map[string][]string{
		"news": {"news"}, "chat_{room}": {"chat_a-b"}, "u-{user}": {"u-7"}, "team-{user.teams}": {"team-x", "team-y"},
		"{user.teams}-{user.teams}": {"x-x", "x-y", "y-x", "y-y"}, "t-{user.none}": nil, "{room}-{http.x}": {"a-b-q"},
		"{user.dash}": {"x-y"},
	} {
		tmpl, err := channels.ParseTemplate(source)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tmpl.Expand(lookup); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", source, got, err, want)
		}
	}
	for source, want := range map[string]error{
		"{gone}": channels.ErrNoValue, "x{empty}": channels.ErrNoValue, "{user.dash}-{user}": channels.ErrAmbiguous,
	} {
		tmpl, err := channels.ParseTemplate(source)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tmpl.Expand(lookup); !errors.Is(err, want) || got != nil {
			t.Errorf("%s: %q, %v; want %v", source, got, err, want)
		}
	}
	for _, source := range []string{"{", "}", "{}", "a}b", "{a{b}}", "x{y"} {
		if _, err := channels.ParseTemplate(source); err == nil {
			t.Errorf("%s is accepted", source)
		}
	}
}

func TestGrantedTemplates(t *testing.T) {
	for source, granted := range map[string]bool{
		"news": true, "u-{user}": true, "t-{user.team}": true, "{room}": false, "{user}-{room}": false,
		"{http.auth.user.id}": false, "{users}": false,
	} {
		tmpl, err := channels.ParseTemplate(source)
		if err != nil || tmpl.Granted() != granted {
			t.Errorf("%s: %v, %v; want %v", source, tmpl.Granted(), err, granted)
		}
	}
	tmpl, _ := channels.ParseTemplate("{user}{user.team}")
	if err := tmpl.Check(); err == nil || !strings.Contains(err.Error(), "write one") {
		t.Errorf("adjacent placeholders: %v", err)
	}
}

// Two users of a granted template never get the same group.
func FuzzGrantedTemplate(f *testing.F) {
	f.Add("a", "b-c", "a-b", "c", "-")
	f.Add("a", "--b", "a-", "-b", "--")
	f.Fuzz(func(t *testing.T, a1, b1, a2, b2, separator string) {
		if separator == "" || strings.ContainsAny(separator, "{}") || a1 == a2 && b1 == b2 {
			return
		}
		tmpl, err := channels.ParseTemplate("{user.a}" + separator + "{user.b}")
		if err != nil {
			t.Fatal(err)
		}
		expand := func(a, b string) []string {
			got, err := tmpl.Expand(func(name string) []string {
				return []string{map[string]string{"user.a": a, "user.b": b}[name]}
			})
			if err != nil {
				return nil
			}
			return got
		}
		first, second := expand(a1, b1), expand(a2, b2)
		if first != nil && slices.Equal(first, second) {
			t.Errorf("%q, %q and %q, %q: both %q", a1, b1, a2, b2, first)
		}
	})
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          []string // nil: no match
	}{
		{"/ws/chat/{room}/", "/ws/chat/lobby/", []string{"lobby"}},
		{"/ws/chat/{room}/", "/ws/chat/lobby", []string{"lobby"}},
		{"/ws/chat/{room}", "/WS/Chat/Lobby/", []string{"Lobby"}},
		{"/ws/chat/{room}/", "/ws/chat/", nil},
		{"/ws/chat/{room}/", "/ws/chat/a/b/", nil},
		{"/ws/chat/{room}/", "/ws/chat//", nil},
		{"/ws/{a}/{b}/", "/ws/x/y", []string{"x", "y"}},
		{"/ws/{id:[0-9]+}/", "/ws/42/", []string{"42"}},
		{"/ws/{id:[0-9]+}/", "/ws/4x/", nil},
		{`/ws/{id:\d{2}}/`, "/ws/42/", []string{"42"}},
		{"/ws/room-{id}-{n:(a|b)}/", "/ws/ROOM-4-b/", []string{"4", "b"}},
		{"/ws/*", "/ws/a/b", []string{}},
		{"/ws/*", "/ws/", []string{}},
		{"/ws/*", "/ws", nil},
		{"/ws/*/live/", "/ws/A/live", []string{}},
		{"/ws/x*/", "/ws/Xyz/", []string{}},
		{"/", "/", []string{}},
		{"/ws/", "/wsx/", nil},
		{"/{a}/*", "/x/y/z", []string{"x"}},
	} {
		p, err := channels.ParsePattern(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		if got, ok := p.Match(c.path); ok != (c.want != nil) || ok && !slices.Equal(got, c.want) && len(c.want) > 0 {
			t.Errorf("%s of %s: %q, %v; want %q", c.pattern, c.path, got, ok, c.want)
		}
	}
	for _, pattern := range []string{
		"", "ws", "*", "/ws/{user}/", "/{a}/{a}/", "/{a", "/a}", "/{a:[}/", "/{http.request.uri.path}/", "/[", "/{}/",
	} {
		if _, err := channels.ParsePattern(pattern); err == nil {
			t.Errorf("%s is accepted", pattern)
		}
	}
}
