package webhttp

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// The bodies are those that pubcontrol 3.5 and Pushpin's documentation use: formats beside the channel, and in an
// object of their own.
func TestParsePublish(t *testing.T) {
	items, err := ParsePublish([]byte(`{"items": [
		{"ws-message": {"content": "hello"}, "http-stream": {"content": "hello\n"}, "id": "2", "prev-id": "1", "channel": "room-1"},
		{"channel": "any name / at all", "formats": {"ws-message": {"content-bin": "AQI="}}, "meta": {"sender": "ann"}}
	]}`))
	if err != nil {
		t.Fatal(err)
	}
	first, err := items[0].Message()
	if err != nil {
		t.Fatal(err)
	}
	want := relay.Message{
		Group: "grip.room-1", Type: "grip.item", Text: []byte(`{"id": "2", "prev-id": "1", ` +
			`"ws-message": {"content":"hello"}, "http-stream": {"content":"hello\n"}}`),
	}
	if first.Group != want.Group || first.Type != want.Type || string(first.Text) != string(want.Text) {
		t.Errorf("message %+v\ntext %s\nwant %s", first, first.Text, want.Text)
	}
	second, err := items[1].Message()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(second.Group, "grip-.") || !relay.ValidGroup(second.Group) {
		t.Errorf("group %q of a channel that is no group name", second.Group)
	}
	if want := `{"meta": {"sender":"ann"}, "ws-message": {"content-bin":"AQI="}}`; string(second.Text) != want {
		t.Errorf("text %s, want %s", second.Text, want)
	}
}

func TestPublishErrorsNameTheItem(t *testing.T) {
	for body, want := range map[string]string{
		``:                                "send a JSON object",
		`[]`:                              "send a JSON object",
		`{}`:                              `"items" is missing`,
		"{\"items\": [\"\xff\"]}":         "not UTF-8",
		`{"items": [1]}`:                  "item 0",
		`{"items": [{"ws-message": {}}]}`: "channel is missing",
		`{"items": [{"channel": ""}]}`:    "channel is missing",
		`{"items": [{"channel": "a"}]}`:   "no format",
		`{"items": [{"channel": "a", "formats": {"ws-message": 1}}]}`:                            "not an object",
		`{"items": [{"channel": "a", "ws-message": {}}]}`:                                        "content is missing",
		`{"items": [{"channel": "a", "ws-message": {"content": 1}}]}`:                            "ws-message",
		`{"items": [{"channel": "a", "ws-message": {"content-bin": "%"}}]}`:                      "content-bin",
		`{"items": [{"channel": "a", "ws-message": {"action": "jump"}}]}`:                        "unknown action",
		`{"items": [{"channel": "a", "ws-message": {"action": "close", "code": 7}}]}`:            "close code 7",
		`{"items": [{"channel": "a", "ws-message": {"type": "text", "content-bin": "/w=="}}]}`:   "not UTF-8",
		`{"items": [{"channel": "a", "ws-message": {"type": "smoke", "content": "x"}}]}`:         "unknown type",
		`{"items": [{"channel": "a", "ws-message": {"content": "x"}, "meta": {"sender": [1]}}]}`: "item 0",
		`{"items": [` + strings.Repeat(`{},`, MaxItems) + `{}]}`:                                 "send 1000 at most",
	} {
		_, err := ParsePublish([]byte(body))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: error %v, want %q in it", body, err, want)
		}
	}
}

func TestPublishers(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	keys := []Key{{"site", []byte("s3cret")}, {"other", []byte("0ther")}, {"empty", nil}}
	token := func(iss string, exp int64, key string) string {
		return "Bearer " + claims{Issuer: iss, Expires: exp}.sign([]byte(key))
	}
	later, before := now.Unix()+60, now.Unix()-1
	// By PyJWT 2: jwt.encode({"iss": "site", "exp": 1800000060}, "s3cret").
	const pyjwt = "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzaXRlIiwiZXhwIjoxODAwMDAwMDYwfQ." +
		"ppc5pPF4dbYoG4rFBe6jthHx1Ge8yHecV64Fa-WwxJM"
	for _, c := range []struct {
		name, authorization string
		want                int
	}{
		{"none", "", -1},
		{"token", token("site", later, "s3cret"), 0},
		{"token of PyJWT", pyjwt, 0},
		{"token of another key", token("other", later, "0ther"), 1},
		{"token without an issuer", token("", later, "0ther"), 1},
		{"expired", token("site", before, "s3cret"), -1},
		{"wrong issuer", token("other", later, "s3cret"), -1},
		{"wrong key", token("site", later, "guess"), -1},
		{"empty key", token("empty", later, ""), -1},
		{"static", "Bearer s3cret", 0},
		{"static, scheme in lower case", "bearer 0ther", 1},
		{"wrong static", "Bearer s3cre", -1},
		{"empty static", "Bearer ", -1},
		{"basic", "Basic c2l0ZTpzM2NyZXQ=", 0},
		{"basic of pubcontrol on Python 3", "Basic b'c2l0ZTpzM2NyZXQ='", 0},
		{"basic with the name of another", "Basic b3RoZXI6czNjcmV0", -1},
		{"basic without a secret", "Basic ZW1wdHk6", -1},
		{"unsigned", "Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJzaXRlIiwiZXhwIjoxOTAwMDAwMDAwfQ.", -1},
		{"another scheme", "Digest s3cret", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := AuthenticatePublisher(c.authorization, keys, now)
			if got != c.want || (err == nil) != (c.want >= 0) {
				t.Errorf("key %d, error %v; want key %d", got, err, c.want)
			}
		})
	}
}

// FuzzParsePublish checks that each parsed item becomes a message, whose text is an object.
func FuzzParsePublish(f *testing.F) {
	f.Add([]byte(`{"items": [{"channel": "a", "ws-message": {"content": "x"}, "id": "1", "meta": {"a": "b"}}]}`))
	f.Add([]byte(`{"items": [{"channel": "a", "formats": {"ws-message": {"action": "close", "code": 4000, "reason": "x"}}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		items, err := ParsePublish(body)
		if err != nil {
			return
		}
		for i := range items {
			m, err := items[i].Message()
			if err != nil {
				t.Fatal(err)
			}
			if !json.Valid(m.Text) || !relay.ValidGroup(m.Group) || m.CheckType() != nil {
				t.Fatalf("group %q, type %q, text %q", m.Group, m.Type, m.Text)
			}
		}
	})
}
