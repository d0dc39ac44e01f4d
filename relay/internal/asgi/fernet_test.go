package asgi

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"
)

// What the public specification gives as examples (generate.json, verify.json, invalid.json).
const (
	specKey   = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
	specToken = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="
)

var specNow = time.Unix(499162800, 0)

func specRing(t testing.TB) keyring {
	raw, err := base64.URLEncoding.DecodeString(specKey)
	if err != nil || len(raw) != 32 {
		t.Fatal(len(raw), err)
	}
	return keyring{newFernetKey([32]byte(raw))}
}

func TestFernetOfTheSpecification(t *testing.T) {
	ring := specRing(t)
	var iv [16]byte
	for i := range iv {
		iv[i] = byte(i)
	}
	if got := string(ring[0].seal(nil, []byte("hello"), specNow, iv)); got != specToken {
		t.Errorf("sealed\n%s, want\n%s", got, specToken)
	}
	if got, err := ring.open([]byte(specToken), time.Minute, specNow.Add(time.Second)); string(got) != "hello" || err != nil {
		t.Errorf("opened %q, %v", got, err)
	}
	// Changes that the specification lists as invalid, made of the valid token.
	change := func(edit func(b []byte) []byte) string {
		b, err := base64.URLEncoding.DecodeString(specToken)
		if err != nil {
			t.Fatal(err)
		}
		b = edit(b)
		mac := ring[0].mac()
		mac.Write(b[:max(0, len(b)-32)])
		return base64.URLEncoding.EncodeToString(append(b[:max(0, len(b)-32)], mac.Sum(nil)...))
	}
	flipped := []byte(specToken)
	flipped[len(flipped)-4] ^= 1
	for name, c := range map[string]struct {
		token string
		at    time.Time
		want  error
	}{
		"wrong HMAC":        {string(flipped), specNow, errWrongKey},
		"wrong version":     {change(func(b []byte) []byte { b[0] = 0x81; return b }), specNow, errNotEncrypted},
		"too short":         {specToken[:64], specNow, errNotEncrypted},
		"nothing":           {"", specNow, errNotEncrypted},
		"no base64":         {"%" + specToken[1:], specNow, errNotEncrypted},
		"wrong padding":     {strings.TrimRight(specToken, "="), specNow, errNotEncrypted},
		"no block multiple": {change(func(b []byte) []byte { return append(b[:30:30], b[31:]...) }), specNow, errNotEncrypted},
		"payload padding":   {change(func(b []byte) []byte { b[24] ^= 0xff; return b }), specNow, errNotEncrypted},
		"expired":           {specToken, specNow.Add(61 * time.Second), errTooOld},
		"from the future":   {specToken, specNow.Add(-61 * time.Second), errFromFuture},
		"clock skew":        {specToken, specNow.Add(-59 * time.Second), nil},
		"just in time":      {specToken, specNow.Add(60*time.Second + 900*time.Millisecond), nil},
	} {
		if _, err := ring.open([]byte(c.token), time.Minute, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := ring.open([]byte(specToken), 0, specNow.AddDate(50, 0, 0)); err != nil {
		t.Errorf("without an age limit: %v", err)
	}
}

func TestKeyring(t *testing.T) {
	now := time.Now()
	old, next := newKeyring([]string{"old"}), newKeyring([]string{"new", "old"})
	for _, text := range []string{"", "x", strings.Repeat("0123456789abcdef", 64), strings.Repeat("y", 4095)} {
		token := old.seal([]byte("before"), []byte(text), now)
		if !bytes.HasPrefix(token, []byte("before")) {
			t.Fatal("seal does not append")
		}
		if got, err := next.open(token[6:], time.Minute, now); string(got) != text || err != nil {
			t.Errorf("the old key's token: %q, %v", got, err)
		}
		if _, err := old.open(next.seal(nil, []byte(text), now), time.Minute, now); !errors.Is(err, errWrongKey) {
			t.Errorf("the new key's token by the old key: %v", err)
		}
	}
}

func FuzzFernet(f *testing.F) {
	ring := specRing(f)
	f.Add([]byte(specToken), []byte("hello"))
	f.Add([]byte(specToken[:64]), []byte{})
	f.Add(binary.BigEndian.AppendUint64([]byte{0x80}, 1<<63), []byte("x"))
	f.Fuzz(func(t *testing.T, token, plain []byte) {
		if got, err := ring.open(token, time.Minute, specNow); err == nil && string(token) != specToken && !bytes.ContainsAny(token, "\r\n") {
			t.Errorf("opened %q as %q", token, got)
		}
		// The same bytes signed, so that what is behind the signature is reached, too.
		if raw, err := base64.URLEncoding.DecodeString(string(token)); err == nil && len(raw) >= 32 {
			mac := ring[0].mac()
			mac.Write(raw[:len(raw)-32])
			_, _ = ring.open(base64.URLEncoding.AppendEncode(nil, mac.Sum(raw[:len(raw)-32])), 0, specNow)
		}
		if got, err := ring.open(ring.seal(nil, plain, specNow), time.Minute, specNow); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%q came back as %q, %v", plain, got, err)
		}
	})
}

func BenchmarkFernet(b *testing.B) {
	ring := newKeyring([]string{"new", "old"})
	now := time.Now()
	for _, size := range []struct {
		name string
		n    int
	}{{"300B", 300}, {"4KiB", 4096}} {
		plain := bytes.Repeat([]byte{'x'}, size.n)
		b.Run("seal "+size.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ring.seal(nil, plain, now)
			}
		})
		for i, which := range []string{"first", "second"} {
			token := ring[i:].seal(nil, plain, now)
			b.Run("open "+size.name+" by the "+which+" key", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := ring.open(token, time.Minute, now); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
