package redis

import "testing"

// TestChannelCapacity has globs that Python's fnmatch was asked about, and expressions that its re.match was.
func TestChannelCapacity(t *testing.T) {
	for _, c := range []struct {
		pattern string
		regexp  bool
		channel string
		want    bool
	}{
		{"http.request*", false, "http.request.x!1", true},
		{"http.request*", false, "xhttp.request", false},
		{"http.request", false, "http.request!", false},
		{"specific.*!", false, "specific.abc!1", false},
		{"specific.?bc!*", false, "specific.abc!1", true},
		{"a[!b]c", false, "abc", false},
		{"a[!b]c", false, "axc", true},
		{"[]x]y", false, "]y", true},
		{"[!]x]y", false, "]y", false},
		{"[a-c]", false, "b", true},
		{"[a^]", false, "^", true},
		{"[^a]", false, "b", false},
		{"[^a]", false, "^", true},
		{"a[b", false, "a[b", true},
		{`a\b`, false, `a\b`, true},
		{`[\d]`, false, "7", false},
		{"http.request", true, "http.request!1", true},
		{"request|http", true, "xrequest", false},
		{"^specific", true, "specific.a!", true},
		{".*x$", true, "ax", true},
	} {
		s := DefaultSettings()
		s.ChannelCapacity = []ChannelCapacity{{c.pattern, c.regexp, 7}, {"*", false, 9}}
		f, err := s.prepare()
		if err != nil {
			t.Error(err)
			continue
		}
		want := 9
		if c.want {
			want = 7
		}
		if got := f.capacity(c.channel); got != want {
			t.Errorf("%q (expression: %v) gives %q %d, want %d", c.pattern, c.regexp, c.channel, got, want)
		}
	}
	for _, bad := range []ChannelCapacity{{"[z-a]", false, 1}, {"(", true, 1}, {"*", false, 0}} {
		s := DefaultSettings()
		s.ChannelCapacity = []ChannelCapacity{bad}
		if err := s.Validate(); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
}
