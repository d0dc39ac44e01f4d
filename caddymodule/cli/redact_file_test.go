package cli

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"
)

// redactOther returns a file of a bundle whose configuration has the given secrets.
func redactOther(text string, secrets ...string) string {
	b := &bundle{redacted: &redactor{secrets: secrets}}
	b.add("logs.ndjson", "", []byte(text))
	b.replaceKnown()
	return string(b.files[0].content)
}

// Escapes hide nothing, and JSON stays JSON.
func TestEscapesInOtherFiles(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"url":"https://x.example/a\u0026b1"}`, `{"url":"https://x.example/a&b1"}`},
		{`{"error":"Get https://x.example/a/b\nretry2 failed"}`, `{"error":"Get https://x.example/a/b\nretry2 failed"}`},
		{`{"u":"see https://x.example/\u003croom7\u003e"}`, `{"u":"see https://x.example/<room7>"}`},
		{`{"uri":"/hook/T024BE7LD?token=abcdefghijkl\u0026x=1"}`, `{"uri":"/hook/[redacted]?token=[redacted]&x=[redacted]"}`},
		{`{"uri": "/ws/\u003cT024BE7LD"}`, `{"uri": "/ws/<[redacted]"}`},
		{`{"url":"wss://x.example/hook?token=abcdefgh"}`, `{"url":"wss://x.example/hook?token=[redacted]"}`},
		{`{"e":"dial https://us\u0065r:p\"w@x.example/a"}`, `{"e":"dial https://[redacted]:[redacted]@x.example/a"}`},
		{`{"e":"https://us er:p w@x.example/a"}`, `{"e":"https://[redacted]:[redacted]@x.example/a"}`},
		{`{"e":"https://user:p/w@x.example/a"}`, `{"e":"https://[redacted]:[redacted]@x.example/a"}`},
		{`{"e":"Get \"https://user:pw@x.example/T024BE7LD?a=b c\": EOF"}`, `{"e":"Get \"https://[redacted]:[redacted]@x.example/[redacted]?a=[redacted]\": EOF"}`},
		{`{"e":"cannot reach https://x.example/T024BE7LD: EOF"}`, `{"e":"cannot reach https://x.example/[redacted]: EOF"}`},
		{`{"request_uri":"/a b/T024BE7LD"}`, `{"request_uri":"/a b/[redacted]"}`},
		{`{"paths":["/a",{"x":1},"/T024BE7LD"]}`, `{"paths":["/a",{"x":1},"/[redacted]"]}`},
		{`{"by":{"/ws/T024BE7LD":1,"/ws/T024BE7LE":1e400}}`, `{"by":{"/ws/[redacted]":1,"/ws/[redacted] 2":1e400}}`},
		{`{"body":"{\"url\":\"/x\\u0026T024BE7LD\"}"}`, `{"body":"{\"url\":\"/x&[redacted]\"}"}`},
		{`{"error":"payload {\"hook\":\"https:\\/\\/user:pw1@x.example\\/T024BE7LD\"}"}`, `{"error":"payload {\"hook\":\"https://[redacted]:[redacted]@x.example/[redacted]\"}"}`},
		{`{"from":"oci://ghcr.io/a/plugin123@sha256:0123456789abcdef"}`, `{"from":"oci://ghcr.io/a/plugin123@sha256:0123456789abcdef"}`},
		{`{"n":12345678901234567890.0,"help":"https://x.example/docs/redis.md#sentinel"}`, `{"n":12345678901234567890.0,"help":"https://x.example/docs/redis.md#sentinel"}`},
		{`{"e":"redis://bob@x.example:pa#sw@h:6379"}`, `{"e":"redis://[redacted]:[redacted]@h:6379"}`},
		{`{"e":"cannot parse redis://u:pa@sw/w0@h:6379/0"}`, `{"e":"cannot parse redis://[redacted]:[redacted]@h:6379/0"}`},
		{`{"e":"{\"a\":\"{\\\"u\\\":\\\"https:\\\\/\\\\/us:pw1@x.example\\\\/T024BE7LD\\\"}\"}"}`, `{"e":"{\"a\":\"{\\\"u\\\":\\\"https://[redacted]:[redacted]@x.example/[redacted]\\\"}\"}"}`},
		{`{"e":"\\ud83d\\ude00 \\ud800 \\u000a\\u0022\\u005c \\\\x"}`, `{"e":"😀 \\ud800 \\u000a\\u0022\\u005c \\\\x"}`},
		// Lines that were cut, and text, are redacted as they are.
		{`{"url":"/hook/T024BE7LD?token=abc`, `{"url":"/hook/[redacted]?token=[redacted]`},
		{`{"url":"/hook/\u00540\u00324BE7LD","x":`, `{"url":"/hook/[redacted]","x":`},
		{`{"url":"https:\/\/user:pw@x.example\/T024BE7LD","x":`, `{"url":"https://[redacted]:[redacted]@x.example/[redacted]","x":`},
		{`{"url":"/a\"b/T024BE7LD",`, `{"url":"/a\"b/[redacted]",`},
		{"{\"paths\":[\n\"/a\",\n\"/T024BE7LD\",", "{\"paths\":[\n\"/a\",\n\"/[redacted]\","},
		{`m{path="/a\nretry2/\\x"} 1`, `m{path="/a\n[redacted]/\\x"} 1`},
		{"{\"uri\":\"/T024BE7LD\"}\n{\"uri\":\"/T024BE7\n{\"uri\":\"/T024BE7LD\"}\n", "{\"uri\":\"/[redacted]\"}\n{\"uri\":\"/[redacted]\n{\"uri\":\"/[redacted]\"}\n"},
	} {
		got := redactOther(c.text)
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.text, got, c.want)
		}
		if json.Valid([]byte(c.text)) && !json.Valid([]byte(got)) {
			t.Errorf("%s: no JSON any more: %s", c.text, got)
		}
	}
}

// Secrets that are in no configuration are known by their names.
func TestCredentialsInOtherFiles(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"password":"hunter two","token":["a","b"],"x":"y"}`, `{"password":"[redacted]","token":["[redacted]","[redacted]"],"x":"y"}`},
		{`{"headers":{"X-Dab-Jw-Token":["abc"],"Cookie":["a=b"]}}`, `{"headers":{"X-Dab-Jw-Token":["[redacted]"],"Cookie":["[redacted]"]}}`},
		{`{"body":"{\"password\":\"hunter\",\"n\":1}"}`, `{"body":"{\"password\":\"[redacted]\",\"n\":1}"}`},
		{`{"error":"dsn host=db password=hunter sslmode=off"}`, `{"error":"dsn host=db password=[redacted] sslmode=off"}`},
		{`{"error":"dsn password='hunter' x=1"}`, `{"error":"dsn password='[redacted]' x=1"}`},
		{`{"error":"sent Authorization: Bearer abc.def, got 401"}`, `{"error":"sent Authorization: [redacted]"}`},
		{`{"error":"sent Bearer abcdef and Basic dXNlcjpw"}`, `{"error":"sent Bearer [redacted] and Basic [redacted]"}`},
		{"Set-Cookie: a=b; Path=/\nX-Real-Token: abc\nHost: x\n", "Set-Cookie: [redacted]\nX-Real-Token: [redacted]\nHost: x\n"},
		{`{"token":"abc`, `{"token":"[redacted]`},
		// Not secrets: numbers, and words that have such names in them.
		{`{"tokens":3,"keys":[{"name":"shop"}],"auth":"awx","passed":"4 of 5","tokenizer":"bpe"}`, `{"tokens":3,"keys":[{"name":"shop"}],"auth":"awx","passed":"4 of 5","tokenizer":"bpe"}`},
		{`{"msg":"the password is wrong","hint":"use a token; see basic authentication"}`, `{"msg":"the password is wrong","hint":"use a token; see basic authentication"}`},
	} {
		got := redactOther(c.text)
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.text, got, c.want)
		}
		if json.Valid([]byte(c.text)) && !json.Valid([]byte(got)) {
			t.Errorf("%s: no JSON any more: %s", c.text, got)
		}
	}
}

// Known secrets are found however a text writes them, also as numbers.
func TestKnownSecretsInOtherFiles(t *testing.T) {
	for _, text := range []string{
		`{"a":"x s\u00263cr\"et< y"}`, `{"s&3cr\"et<":1}`, `{"a":"{\"b\":\"s&3cr\\\"et<\"}"}`,
		`{"a":"{\"b\":\"s\\u00263cr\\\"et\\u003c\"}"}`, `{"a":"s\u00263cr\"et\u003c`, `{"a":"\u0073&3cr\"et<`,
		`{"a":"{\"b\":\"s\\u0026\\u0033cr\\\"et\\u003c\"}"}`,
		`{"a":[1,1234567890]}`, `{"a":"1234567890"}`,
	} {
		got := redactOther(text, `s&3cr"et<`, "1234567890")
		if strings.Contains(got, "3cr") || strings.Contains(got, "123456") || !strings.Contains(got, redacted) {
			t.Errorf("%s: got %s", text, got)
		}
		if json.Valid([]byte(text)) && !json.Valid([]byte(got)) {
			t.Errorf("%s: no JSON any more: %s", text, got)
		}
	}
}

// Known secrets are found in JSON that is quoted several times, with all characters but those of ASCII escaped, and if
// they look like escapes themselves.
func TestKnownSecretsInQuotedJSON(t *testing.T) {
	quote := func(text string) string {
		quoted, _ := json.Marshal(text)
		var out strings.Builder
		for _, c := range string(quoted) {
			if c < 0x80 {
				out.WriteRune(c)
				continue
			}
			for _, unit := range utf16.Encode([]rune{c}) {
				fmt.Fprintf(&out, `\u%04x`, unit)
			}
		}
		return out.String()
	}
	for _, secret := range []string{
		`s3cr&t"<pass`, "s3crät-pass", "s3cr😀-pass", `s3cr\/pass`, `s3cr\u0041pass`, `s3cr\\pass`,
	} {
		text := secret
		for depth := range 3 {
			text = `{"a":` + quote("x "+text+" y") + `}`
			for _, text := range []string{text, text[:len(text)-1]} { // a line that was cut is no JSON
				got := redactOther(text, secret)
				if strings.Contains(got, "s3cr") || strings.Contains(got, "pass") || !strings.Contains(got, redacted) {
					t.Errorf("%s, quoted %d times: %s became %s", secret, depth+1, text, got)
				}
			}
		}
	}
}

// writeHidden writes JSON whose strings hold a secret somewhere, with random escapes.
func writeHidden(random *rand.Rand, depth int, secret func() string) string {
	quote := func(text string) string {
		var out strings.Builder
		for _, c := range text {
			switch {
			case c == '"' || c == '\\' || c < ' ' || random.IntN(4) == 0 && c < 0x10000:
				fmt.Fprintf(&out, `\u%04x`, c)
			case c == '/' && random.IntN(2) == 0:
				out.WriteString(`\/`)
			default:
				out.WriteRune(c)
			}
		}
		return `"` + out.String() + `"`
	}
	switch kind := random.IntN(4); {
	case depth > 0 && kind == 0:
		return "[" + writeHidden(random, depth-1, secret) + " ,\n" + writeHidden(random, depth-1, secret) + "]"
	case depth > 0:
		name := []string{"a", "path", "uri", "é<", secret()}[random.IntN(5)]
		return "{" + quote(name) + " \t: " + writeHidden(random, depth-1, secret) + `,"n":-1.50e+3}`
	}
	return quote(secret())
}

// No place in a string and no escape hides a known secret, a user of a URL, or a token of a URL.
func TestSecretsInAnyString(t *testing.T) {
	const known = `kn&own"s3cr`
	random := rand.New(rand.NewPCG(1, 2))
	around := []string{"", " ", "é", "\n", "<", "\\", `"`, "x ", "&", "{", ", ", "a/b "}
	secret := func() string {
		text := []string{
			known, "https://us3r:pas/sw0rd@h/", "wss://us3r@h", "https://h/a/T024s3cr?x=1", "https://h/?q=pas%20sw0rd",
			"https://h/<T024s3cr>",
		}[random.IntN(6)]
		return around[random.IntN(len(around))] + text + around[random.IntN(len(around))]
	}
	for range 20_000 {
		text := writeHidden(random, random.IntN(5), secret)
		got := redactOther(text, known)
		var decoded any
		if err := json.Unmarshal([]byte(got), &decoded); err != nil {
			t.Fatalf("%s became %s: %v", text, got, err)
		}
		for _, leak := range []string{"s3cr", "us3r", "sw0rd"} {
			if strings.Contains(got, leak) || strings.Contains(fmt.Sprintf("%q", decoded), leak) {
				t.Fatalf("%s became %s", text, got)
			}
		}
	}
}

// FuzzOtherFiles checks that redaction keeps JSON valid, and leaves no known secret.
func FuzzOtherFiles(f *testing.F) {
	for _, seed := range []string{
		`{"url":"https://x.example/a\u0026b1"}`, `["\ud800", {"uri": "/a?b=c#d"}]`, `{"path":"\\nretry2/\\u0041/[a-z]?x=1"}`,
		`"a://b:c/d@e?f#g=h"`, `{"a":"uri=[/b/c1d2e3]"}`, `{"url":"/x`, "1\n{}\nx",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := redactOther(text, `kn&own"s3cr`)
		if json.Valid([]byte(text)) && !json.Valid([]byte(got)) {
			t.Fatalf("%q became %q", text, got)
		}
		if strings.Contains(got, `kn&own"s3cr`) {
			t.Fatalf("%q is in %q", `kn&own"s3cr`, got)
		}
	})
}
