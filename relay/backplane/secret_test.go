package backplane

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// What Python makes of the same secrets is the measure.
const signInPython = `
import hashlib, hmac, json, sys
for secret, nonce in json.load(sys.stdin):
    text = json.dumps({"secret": secret, "nonce": nonce})
    print("HMAC-SHA256 " + nonce + ":" + hmac.new(secret.encode(), text.encode(), "sha256").hexdigest())
`

func TestHeaderIsPythons(t *testing.T) {
	secrets := []string{
		"simple", "with \"quotes\" and \\", "tab\tnewline\nnull\x00del\x7f", "ümläut", "漢字", "🔑 beyond the plane", "</script>&",
		"\u2028\u2029", strings.Repeat("long", 100),
	}
	now := time.Unix(1700000000, 0)
	var pairs [][2]string
	for _, s := range secrets {
		pairs = append(pairs, [2]string{s, "1700000000"})
	}
	input, err := json.Marshal(pairs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-c", signInPython)
	cmd.Stdin = strings.NewReader(string(input))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3: %v; mend it with: apt-get install --yes python3", err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if got := Header(secrets[i], now); got != line {
			t.Errorf("%q: %s, Python makes %s", secrets[i], got, line)
		}
		if _, _, err := (Secrets{"other", secrets[i]}).Verify(line, now); err != nil {
			t.Errorf("%q: Python's header is refused: %v", secrets[i], err)
		}
	}
}

func TestVerify(t *testing.T) {
	now := time.Unix(1700000000, 500_000_000)
	secrets := Secrets{"new", "old"}
	good := Header("new", now)
	for name, c := range map[string]struct {
		header string
		skew   time.Duration
		err    error
	}{
		"now":              {good, 0, nil},
		"previous secret":  {Header("old", now), 0, nil},
		"300 s behind":     {Header("new", now.Add(-300*time.Second)), 300 * time.Second, nil},
		"300 s ahead":      {Header("new", now.Add(300*time.Second)), -300 * time.Second, nil},
		"301 s behind":     {Header("new", now.Add(-301*time.Second)), 301 * time.Second, RejectedClock},
		"a day ahead":      {Header("new", now.Add(24*time.Hour)), -24 * time.Hour, RejectedClock},
		"none":             {"", 0, RejectedMissing},
		"another scheme":   {"HMAC-SHA512 1:2", 0, RejectedMalformed},
		"no signature":     {"HMAC-SHA256 1700000000", 0, RejectedMalformed},
		"no nonce":         {"HMAC-SHA256 :00", 0, RejectedMalformed},
		"lower case":       {strings.ToLower(good), 0, RejectedMalformed},
		"wrong secret":     {Header("newer", now), 0, RejectedSecret},
		"cut off":          {good[:len(good)-1], 0, RejectedSecret},
		"another nonce":    {strings.Replace(good, "1700000000", "1700000001", 1), 0, RejectedSecret},
		"junk":             {"\x00\xff", 0, RejectedMalformed},
		"a nonce of words": {"HMAC-SHA256 soon:" + signNonce("new", "soon"), 0, RejectedMalformed},
	} {
		secret, skew, err := secrets.Verify(c.header, now)
		if err != c.err || skew != c.skew || (err == nil) != (secret != "") {
			t.Errorf("%s: secret %q, skew %v, %v; want skew %v, %v", name, secret, skew, err, c.skew, c.err)
		}
	}
}

func TestRefusalsExplainThemselves(t *testing.T) {
	for _, r := range []Rejection{RejectedMissing, RejectedMalformed, RejectedSecret, RejectedClock, RejectedProof, RejectedSelf, RejectedDialect} {
		if len(r.Error()) <= len(r) {
			t.Errorf("%s says only %q", string(r), r.Error())
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("HMAC-SHA256 1700000000:00")
	f.Add(Header("s", time.Unix(1700000000, 0)))
	f.Fuzz(func(t *testing.T, header string) {
		if _, _, err := (Secrets{"s"}).Verify(header, time.Unix(1700000000, 0)); err == nil && !strings.HasPrefix(header, "HMAC-SHA256 ") {
			t.Errorf("%q is accepted", header)
		}
	})
}
