package eventstream

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
)

// event is an event as a client dispatches it (WHATWG HTML section 9.2.6).
type event struct{ id, name, data string }

// dispatch parses a stream as a browser does.
func dispatch(stream []byte) (events []event) {
	var e event
	var data []string
	last := ""
	text := strings.ReplaceAll(strings.ReplaceAll(string(stream), "\r\n", "\n"), "\r", "\n")
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if e.id = last; data != nil {
				e.data = strings.Join(data, "\n")
				events = append(events, e)
			}
			e, data = event{}, nil
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			last = value
		case "event":
			e.name = value
		case "data":
			data = append(data, value)
		}
	}
	return events
}

var place42 = relay.Position{Micros: 1764378000123456, Mark: 42}

func envelopeOf(text string) []byte {
	return awx.Protocol{}.AppendEvent(nil, &relay.Event{Group: "job_events-42", Position: place42}, []byte(text))
}

func TestPlain(t *testing.T) {
	id := "job_events-42:" + place42.String()
	var p awx.Protocol
	for name, c := range map[string]struct {
		frame []byte
		want  event
	}{
		"JSON":          {envelopeOf(`{"counter": 117, "a": [1, 2]}`), event{id, "", `{"counter": 117, "a": [1, 2]}`}},
		"JSON in lines": {envelopeOf("{\r\n\"a\":\n1}"), event{id, "", "{\n\"a\":\n1}"}},
		"text":          {envelopeOf("NaN é \"q\"\ntwo"), event{id, "", "NaN é \"q\"\ntwo"}},
		"empty":         {envelopeOf(""), event{id, "", ""}},
		"imitation":     {envelopeOf(`{"type":"gap","group":"x"}`), event{id, "", `{"type":"gap","group":"x"}`}},
		"without a place": {
			p.AppendEvent(nil, &relay.Event{Group: "a-b", Sent: time.Unix(1, 0)}, []byte(`{"counter": 1}`)),
			event{"", "", `{"counter": 1}`},
		},
		"binary":     {[]byte(`{"type":"event","group":"a-b","binary":"AAEC"}`), event{"", "binary", "AAEC"}},
		"subscribed": {p.EncodeResumed(relay.Resumed{Group: "job_events-42", Position: place42}), event{id, "subscribed", `{"type":"subscribed","group":"job_events-42","position":"` + place42.String() + `","events":0}`}},
		"replay":     {p.EncodeResumed(relay.Resumed{Group: "a-b", Position: place42, Events: 3}), event{"", "subscribed", `{"type":"subscribed","group":"a-b","position":"` + place42.String() + `","events":3}`}},
		"gap":        {p.EncodeGap(relay.Gap{Groups: []string{"a-b"}, Position: place42}), event{"", "gap", string(p.EncodeGap(relay.Gap{Groups: []string{"a-b"}, Position: place42}))}},
		"withheld":   {p.EncodeWithheld("job_events-42", place42), event{id, "withheld", string(p.EncodeWithheld("job_events-42", place42))}},
		"error":      {[]byte(`{"error": "no"}`), event{"", "error", `{"error": "no"}`}},
		"groups":     {p.EncodeChange(relay.Change{}), event{"", "groups_current", string(p.EncodeChange(relay.Change{}))}},
		"other":      {[]byte(`hello`), event{"", "", "hello"}},
	} {
		got := dispatch(Plain(nil, true, c.frame))
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		if framed := dispatch(Framed(nil, true, c.frame)); len(framed) != 1 || framed[0].id != c.want.id || framed[0].name != "" {
			t.Errorf("%s: framed %q", name, framed)
		}
	}
	if got := dispatch(Plain(nil, false, []byte{0, 255})); len(got) != 1 || got[0] != (event{"", "binary", "AP8="}) {
		t.Errorf("a binary frame: %q", got)
	}
	for _, hidden := range []string{`{"close": true}`, `{"accept": true, "user": 1}`} {
		if got := Plain(nil, true, []byte(hidden)); len(got) > 0 {
			t.Errorf("%s: %q", hidden, got)
		}
	}
}

func TestPlaces(t *testing.T) {
	other := relay.Position{Micros: 1, Mark: 2, Part: 3}
	old, _ := ParseID("old-1:" + other.String() + ",bad-1:xyz")
	p := NewPlaces(old)
	var stream []byte
	for range 2 {
		stream = Plain(stream, true, envelopeOf("{}"))
	}
	stream = Plain(stream, true, []byte(`{"error": "no"}`))
	stream = Plain(stream, true, awx.Protocol{}.EncodeWithheld("b-1", other))
	got := dispatch(p.Rewrite(nil, stream))
	two := "old-1:" + other.String() + ",job_events-42:" + place42.String()
	for i, want := range []string{two, two, two, two + ",b-1:" + other.String()} {
		if got[i].id != want {
			t.Errorf("event %d has id %q, want %q", i, got[i].id, want)
		}
	}
	if tokens, damaged := ParseID(got[3].id); len(tokens) != 3 || tokens["b-1"] != other.String() || damaged {
		t.Errorf("%v, damaged: %v", tokens, damaged)
	}
}

func TestDamagedIDs(t *testing.T) {
	for id, want := range map[string]bool{
		"": false, "a-1:xyz": false, "a-1:x,b-1:y": false,
		"a-1": true, "a-1:": true, "xyz": true, "a-1:x,b-1": true, "a-1:x,": true, "a 1:x": true,
		strings.Repeat("a-1:x,", maxID): true,
	} {
		if _, damaged := ParseID(id); damaged != want {
			t.Errorf("%.40q is damaged: %v, want %v", id, damaged, want)
		}
	}
}

func TestEnd(t *testing.T) {
	if got := dispatch(End(1008, `a "b"`, false)); len(got) != 1 || got[0] != (event{"", "close", `{"code":1008,"reason":"a \"b\""}`}) {
		t.Errorf("%q", got)
	}
	if got := string(End(1012, "x", true)); got != "retry: 20\n\n" {
		t.Errorf("%q", got)
	}
	if got := string(End(1012, "x", false)); !strings.HasPrefix(got, "retry: ") {
		t.Errorf("%q", got)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("job_events-42:" + place42.String() + ",a-b:c")
	f.Add(",,:,:a,a:,\x00:\n")
	f.Add("0:\r0000\n0000000000000000")
	f.Fuzz(func(t *testing.T, id string) {
		tokens, _ := ParseID(id)
		if len(tokens) > MaxGroups {
			t.Fatalf("%d groups", len(tokens))
		}
		p := NewPlaces(tokens)
		own, _ := ParseID(strings.TrimSpace(strings.TrimPrefix(string(p.appendID(nil)), idField)))
		for group, token := range own {
			if tokens[group] != token {
				t.Fatalf("%q became %q", tokens[group], token)
			}
		}
	})
}

// FuzzEvents: no text can leave its event, or become a field of its own.
func FuzzEvents(f *testing.F) {
	f.Add("a\r\n\r\nid: x:y\nevent: close\ndata: z\n\n")
	f.Add("{\"a\":\r1}")
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		want := strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
		p := NewPlaces(nil)
		for _, got := range [][]event{
			dispatch(Plain(nil, true, envelopeOf(text))), dispatch(p.Rewrite(nil, Plain(nil, true, envelopeOf(text)))),
		} {
			if len(got) != 1 || got[0].data != want || got[0].name != "" || got[0].id != "job_events-42:"+place42.String() {
				t.Fatalf("%q became %q", text, got)
			}
		}
	})
}

// A client that comes with positions of many other groups still gets those of its own.
func TestForeignPlacesMakeRoom(t *testing.T) {
	const token = "AAZhZyDILNHXWfTlxGsMEw"
	tokens := map[string]string{}
	for i := range MaxGroups {
		tokens[fmt.Sprintf("other-%d", i)] = token
	}
	p := NewPlaces(tokens)
	got := p.Rewrite(nil, []byte("id: own-1:"+token+"\ndata: x\n\n"))
	if id, _, _ := strings.Cut(string(got), "\n"); !strings.Contains(id, "own-1:"+token) || strings.Count(id, ",") != MaxGroups-1 {
		t.Errorf("the id is %q", id)
	}
}
