package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// validateText adapts and loads a Caddyfile without running it.
func validateText(name string, text []byte) error {
	out, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": name})
	if err != nil {
		return err
	}
	var config caddy.Config
	if err := caddy.StrictUnmarshalJSON(out, &config); err != nil {
		return err
	}
	return caddy.Validate(&config)
}

// misspell exchanges the last two letters that differ.
func misspell(word string) string {
	b := []byte(word)
	for i := len(b) - 1; i > 0; i-- {
		if b[i] != b[i-1] {
			b[i], b[i-1] = b[i-1], b[i]
			break
		}
	}
	return string(b)
}

// foreignLines begin the lines of the corpus that Caddy reads itself.
var foreignLines = []string{"edgerelay", "admin", "reverse_proxy", "http://", "@", "lb_", "transport", "http_port", "servers"}

// Every setting of the corpus, which has each setting of every block, is suggested when two of its letters are
// exchanged.
func TestEveryMisspelledSettingGetsASuggestion(t *testing.T) {
	t.Setenv("EDGERELAY_CORPUS", corpusSecret)
	t.Setenv("EDGERELAY_HISTORY_KEY", corpusSecret)
	tried := 0
	for _, name := range corpus(t) {
		lines := strings.SplitAfter(string(readCorpus(t, name)), "\n")
		for i, line := range lines {
			word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			isOurs := len(word) >= 3
			for _, prefix := range foreignLines {
				isOurs = isOurs && !strings.HasPrefix(word, prefix)
			}
			if !isOurs {
				continue
			}
			tried++
			wrong := lines[i]
			lines[i] = misspell(word) + " " + rest + "\n"
			err := validateText(name, []byte(strings.Join(lines, "")))
			lines[i] = wrong
			if err == nil || !strings.Contains(err.Error(), "did you mean") || !strings.Contains(err.Error(), word) {
				t.Errorf("%s:%d: %s: %v", name, i+1, misspell(word), err)
			}
		}
	}
	if tried < 200 {
		t.Errorf("only %d settings were tried", tried)
	}
}

// Words among a fixed choice are suggested, too, and so are names of modules.
func TestMisspelledValuesGetASuggestion(t *testing.T) {
	const secret = "backplane {\nsecret 0123456789abcdef\n"
	for lines, want := range map[string]string{
		"channel_layr memory\nauth none":                       "did you mean channel_layer? It has channel_layer, auth,",
		"limits {\nconections 5\n}":                            "did you mean connections? It has frame_size,",
		"history x-* {\ngroup y\n}":                            "did you mean groups? It has groups,",
		"channel_layer redis {\nprefx x\n}\nauth none":         "did you mean prefix? It has url,",
		"channel_layer reddis\nauth none":                      "did you mean redis? Use one of memory, redis,",
		"auth nnoe":                                            "did you mean none? Use one of awx,",
		"auth awx http://a {\nstrict offf\n}":                  "did you mean off? Use on or off",
		"auth awx http://a {\nother_groups alow\n}":            "did you mean allow? Use allow or deny",
		"auth http http://a {\nmethod pots\n}":                 "did you mean post? Use get or post",
		"auth jwt {\nfrom haeder X-A\n}":                       "did you mean header? Use header, cookie,",
		"auth none\nunauthenticated rejcet":                    "did you mean reject? Use close or reject",
		"auth none\ncompression offf":                          "did you mean off? Use on, off or a block",
		"auth none\nchannel_layer redis {\nserializer jsno\n}": "did you mean json? Use msgpack or json",
		"auth none\n" + secret + "pers http://a\n}":            "did you mean peers? It has secret,",
		"auth none\n" + secret + "dialect realy\n}":            "did you mean relay? Use auto,",
		"auth none\nplugin a b {\ngrant emitt\n}":              "did you mean emit? Use emit,",
		"auth none\nplugin a b {\non_error withold\n}":         "did you mean withhold? Use withhold,",
	} {
		if err := validate(global(lines)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %q", lines, err, want)
		}
	}
	for lines, want := range map[string]string{
		"rout /ws/ {\ngroups a\n}":                                               "did you mean route? It has path and route",
		"route /ws/ {\ngroups a\non a.b txt message\n}":                          "did you mean text? Use text,",
		"route /ws/ {\ngroups a\non a.b {\njsn a\n}\n}":                          "did you mean json? Use text,",
		"route /ws/ {\ngroups a\non a.b json {\nste a 1\n}\n}":                   "did you mean set? Only set is",
		"route /ws/ {\ngroups a\nfirst txt hello\n}":                             "did you mean text? First takes",
		"route /ws/ {\ngroups a\nfirst fetch http://a {\non_error contnue\n}\n}": "did you mean continue? Use close",
		"route /ws/ {\ngroups a\nmessages publsh a.b\n}":                         "did you mean publish? Use ignore,",
		"route /ws/ {\ngroups a\nmessages publish a.b {\nothrs\n}\n}":            "did you mean others? It has json",
		"route /ws/ {\nmessages subscribe {\njion a\n}\n}":                       "did you mean join? It has join",
	} {
		err := validate("{\nadmin off\nedgerelay {\nauth none\n}\n}\n:9 {\nedgerelay {\n" + lines + "\n}\n}\n")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("%s\n%v, want %q and the line", lines, err, want)
		}
	}
}

// JSON has no lines, but the same suggestions.
func TestMisspelledValuesInJSONGetASuggestion(t *testing.T) {
	var on RouteRule
	if err := json.Unmarshal([]byte(`{"type": "a.b", "form": "txt"}`), &on); err != nil {
		t.Fatal(err)
	}
	if _, err := on.rule(nil); err == nil || !strings.Contains(err.Error(), "did you mean text?") {
		t.Errorf("form: %v", err)
	}
	if _, err := (&RouteMessages{Action: "publsh"}).compile(nil); err == nil ||
		!strings.Contains(err.Error(), "did you mean publish?") {
		t.Errorf("action: %v", err)
	}
}

func TestSecondGlobalOptionNamesItsLine(t *testing.T) {
	err := validate("{\nedgerelay {\nauth none\n}\nedgerelay {\nauth none\n}\n}\n")
	if err == nil || !strings.Contains(err.Error(), "configured twice; merge the blocks, at Caddyfile:5") {
		t.Errorf("%v, want the line of the second block", err)
	}
}
