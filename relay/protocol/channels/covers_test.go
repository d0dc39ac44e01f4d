package channels

import "testing"

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		earlier, later string
		want           bool
	}{
		{"/ws/*", "/ws/chat/", true},
		{"/ws/*", "/ws/chat/*", true},
		{"/ws/*", "/ws/{room}/{id:[0-9]+}/", true},
		{"/*", "/ws/", true},
		{"/*", "/", true},
		{"/ws/*", "/ws/", false}, // matches /ws, too
		{"/ws/*", "/ws", false},  // as it does
		{"/ws/chat/", "/ws/*", false},
		{"/ws/{room}/", "/ws/chat/", true},
		{"/ws/{room}/", "/ws/{id:[0-9]+}/", true},
		{"/ws/{id:[0-9]+}/", "/ws/{room}/", false},
		{"/ws/{id:[0-9]+}/", "/ws/12/", true},
		{"/ws/{id:[0-9]+}/", "/ws/{id:[0-9]+}/", true},
		{"/ws/{room:[a-z]+}/", "/ws/chat/", false}, // which serves /ws/CHAT/, too
		{"/ws/chat-*/", "/ws/CHAT-1/", true},
		{"/ws/chat-*/", "/ws/news/", false},
		{"/ws/*/", "/ws/{room}/", true},
		{"/ws/{room}/", "/ws/", false},
		{"/ws/{room}/", "/ws/a/b/", false},
	} {
		earlier, err := ParsePattern(c.earlier)
		if err != nil {
			t.Fatal(err)
		}
		later, err := ParsePattern(c.later)
		if err != nil {
			t.Fatal(err)
		}
		if got := earlier.Covers(later); got != c.want {
			t.Errorf("%s before %s: %t, want %t", c.earlier, c.later, got, c.want)
		}
	}
}
