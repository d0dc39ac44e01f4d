package plugins

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

func TestRequestsAreRedacted(t *testing.T) {
	for _, c := range []struct{ name, request, secret, kept string }{
		{"number", `{"user":{"id":7,"password":4711004711}}`, "4711004711", `"id":7`},
		{"negative number", `{"user":{"secret":-4711004711}}`, "4711004711", `"secret":`},
		{"numbers in a list", `{"user":{"token":[4711004711,{"a":8822008822}]}}`, "8822008822", `"token":[`},
		{"cookie without a name", `{"headers":{"cookie":"a=b; onlyavalue"}}`, "onlyavalue", "a=redacted-"},
		{"two spaces", `{"headers":{"authorization":"Bearer  tok-4711-0047"},"path":"/tok-4711-0047"}`, "tok-4711", "Bearer "},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, secrets := newRedactor(nil, false).request([]byte(c.request))
			text := string(replaceTexts(out, secrets.replace))
			if strings.Contains(text, c.secret) || !strings.Contains(text, c.kept) || !json.Valid(out) {
				t.Errorf("%s: got %s, want %s and no %s", c.request, text, c.kept, c.secret)
			}
		})
	}
}

// TestSecretThatBeginsAnother: the end of the longer secret must not stay behind the replacement of the shorter one.
func TestSecretThatBeginsAnother(t *testing.T) {
	_, secrets := newRedactor(nil, false).request(
		[]byte(`{"query":"session=abcdefgh&token=abcdefgh.signature"}`))
	if got := secrets.replace("abcdefgh.signature"); strings.Contains(got, "signature") {
		t.Errorf("got %q", got)
	}
}

// TestSecretsInBinaryDataAreReplaced: base64 in a line must not hide a secret.
func TestSecretsInBinaryDataAreReplaced(t *testing.T) {
	data := []byte("\xffsecret-4711\xff")
	effect, _ := json.Marshal(map[string]string{"send_binary": base64.StdEncoding.EncodeToString(data)})
	s := &Sample{Function: &FunctionSample{
		Binary: data, ContextBinary: data, AttachmentBinary: data, WantAttachmentBinary: data, Then: "secret-4711",
		Effects: []json.RawMessage{effect},
	}}
	replaceInSample(s, func(text string) string { return strings.ReplaceAll(text, "secret-4711", "redacted") })
	want := []byte("\xffredacted\xff")
	f := s.Function
	for name, got := range map[string][]byte{
		"binary": f.Binary, "context": f.ContextBinary, "attachment": f.AttachmentBinary,
		"attachment after": f.WantAttachmentBinary,
	} {
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if want := base64.StdEncoding.EncodeToString(want); !strings.Contains(string(f.Effects[0]), want) || f.Then != "redacted" {
		t.Errorf("got the effect %s, then %q", f.Effects[0], f.Then)
	}
	if !bytes.Contains(data, []byte("secret")) {
		t.Error("the bytes of the caller have changed")
	}
}

// TestRecordedRandomBytesAreTheFirst: after more bytes than a record keeps, later ones must not follow a gap.
func TestRecordedRandomBytesAreTheFirst(t *testing.T) {
	rec := &callRecord{}
	var all []byte
	for i, n := range []int{60 << 10, 10 << 10, 1 << 10} {
		b := bytes.Repeat([]byte{byte(i)}, n)
		all = append(all, b...)
		rec.addRandom(b)
	}
	if len(rec.random) > maxRecordedRandom || !bytes.HasPrefix(all, rec.random) {
		t.Errorf("%d bytes, which are not the first ones", len(rec.random))
	}
}
