package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

// closeCode reads until the close frame, and counts the texts before it.
func closeCode(w *wstest.Wire) (code, texts int, err error) {
	for {
		f, err := w.Frame()
		switch {
		case err != nil:
			return 0, texts, err
		case f.First == 0x81:
			texts++
		case f.First == 0x88 && len(f.Payload) >= 2:
			return int(f.Payload[0])<<8 | int(f.Payload[1]), texts, nil
		}
	}
}

// A client that sends too much is closed, and no other client notices.
func TestFloods(t *testing.T) {
	f := newFortress(t, "")
	f.bystander(t)
	f.enter(t, "alice")
	before := f.heap(t)
	for name, c := range map[string]struct {
		bytes string
		code  int
	}{
		"subscriptions": {strings.Repeat(wstest.MaskedFrame(0x81,
			`{"groups": {"jobs": ["summary"]}, "xrftoken": "t"}`), 5000), 1008},
		"subscriptions that vary": {variedSubscriptions(3000), 1008},
		"messages that are none":  {strings.Repeat(wstest.MaskedFrame(0x81, "junk"), 5000), 1008},
		"binary messages":         {strings.Repeat(wstest.MaskedFrame(0x82, "\xff"), 5000), 1008},
		"wrong tokens": {strings.Repeat(wstest.MaskedFrame(0x81,
			`{"groups": {}, "xrftoken": "x"}`), 5000), 1008},
		"empty pings": {strings.Repeat(wstest.MaskedFrame(0x89, ""), 20_000), 1008},
		"long pings": {strings.Repeat(wstest.MaskedFrame(0x89, strings.Repeat("p", 125)),
			20_000), 1008},
		"empty pongs": {strings.Repeat(wstest.MaskedFrame(0x8a, ""), 20_000), 1008},
		"long pongs": {strings.Repeat(wstest.MaskedFrame(0x8a, strings.Repeat("p", 125)),
			20_000), 1008},
		"empty fragments": {wstest.MaskedFrame(0x01, "") +
			strings.Repeat(wstest.MaskedFrame(0x00, ""), 20_000), 1008},
		"fragments of a byte": {wstest.MaskedFrame(0x01, "") +
			strings.Repeat(wstest.MaskedFrame(0x00, "x"), 20_000), 1008},
		"empty messages": {strings.Repeat(wstest.MaskedFrame(0x81, ""), 20_000), 1008},
		"a hundred thousand groups at once": {wstest.MaskedFrame(0x81,
			`{"groups": {"flood": [`+numbers(100_000)+`]}, "xrftoken": "t"}`), 1009},
		"a mebibyte of fragments": {wstest.MaskedFrame(0x01, "") +
			strings.Repeat(wstest.MaskedFrame(0x00, strings.Repeat("x", 100)), 10_000), 1009},
	} {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					w, err := wstest.DialWire(t, f.URL)
					if err == nil {
						err = w.Shake("/websocket/", "Cookie: awx_sessionid=bob; csrftoken=t")
					}
					if err != nil {
						t.Error(err)
						return
					}
					go func() { _ = w.Write(c.bytes) }() // cut off in the middle
					if code, texts, err := closeCode(w); err != nil || code != c.code || texts > 5000 {
						t.Errorf("closed with %d after %d answers, %v; want %d", code, texts, err, c.code)
					}
				})
			}
			all.Wait()
		})
	}
	t.Run("afterwards", func(t *testing.T) {
		testkit.Eventually(t, "the memory is free again", func() error {
			if now := f.heap(t); now > before+24<<20 {
				return fmt.Errorf("%d bytes on the heap, before %d", now, before)
			}
			return nil
		})
		if lines := strings.Count(f.Log(), "wrong xrftoken"); lines == 0 || lines > 60 {
			t.Errorf("a flood of wrong tokens filled %d lines of the log, want 1 to 60", lines)
		}
	})
}

func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprint(&b, ",", i)
	}
	return b.String()[1:]
}

func variedSubscriptions(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(wstest.MaskedFrame(0x81,
			fmt.Sprintf(`{"groups": {"job_events": [%d, %d, %d]}, "xrftoken": "t"}`, i, i+10_000, i+20_000)))
	}
	return b.String()
}

// One message of 64 KiB causes neither twenty thousand responses nor more subscriptions than the limit.
func TestSubscriptionsOfOneMessageAreBounded(t *testing.T) {
	f := newFortress(t, "")
	f.bystander(t)
	w := f.enter(t, "alice")
	for message, most := range map[string]int{
		`{"groups": {"job_events": [` + strings.Repeat("43,", 20_000) + `43]}, "xrftoken": "t"}`: 100,
		`{"groups": {"job_events": [` + strings.Repeat(`"",`, 20_000) + `""]}, "xrftoken": "t"}`: 100,
		`{"groups": {"flood": [` + numbers(10_000) + `]}, "xrftoken": "t"}`:                      1,
	} {
		say(t, w, message)
		say(t, w, `{"groups": {"probe": ["done"]}, "xrftoken": "t"}`)
		refused := 0
		for {
			current, refusals := groupsOf(t, w)
			refused += len(refusals)
			if len(current) == 1 && current[0] == "probe-done" {
				break
			}
			if len(current) > 0 {
				t.Errorf("%.60s joined %d groups", message, len(current))
			}
		}
		if refused == 0 || refused > most {
			t.Errorf("%.60s was refused %d times, want 1 to %d", message, refused, most)
		}
	}
	if n := len(f.api.questions()); n > 10 {
		t.Errorf("%d questions to the API", n)
	}
}

// A recorded handshake of a node opens nothing between relays, and nothing at all once it is five minutes old.
func TestPeerHandshakes(t *testing.T) {
	f := newFortress(t, "backplane {\n\t\t\tsecret s3cret\n\t\t}")
	f.bystander(t)
	now := time.Now()
	good := backplane.Header("s3cret", now)
	for name, headers := range map[string][]string{
		"none": nil, "empty": {"secret: \t"}, "another secret": {"secret: " + backplane.Header("s3cre", now)},
		"an empty secret":   {"secret: " + backplane.Header("", now)},
		"old":               {"secret: " + backplane.Header("s3cret", now.Add(-310*time.Second))},
		"of the future":     {"secret: " + backplane.Header("s3cret", now.Add(330*time.Second))},
		"the secret itself": {"secret: s3cret"},
		"another nonce":     {"secret: " + strings.Replace(good, fmt.Sprint(now.Unix()), fmt.Sprint(now.Unix()+1), 1)},
		"upper case":        {"secret: " + strings.ToUpper(good)}, "cut off": {"secret: " + good[:len(good)-2]},
		"no signature":       {"secret: " + good[:strings.IndexByte(good, ':')+1]},
		"behind a wrong one": {"secret: x\r\nsecret: " + good}, "in a cookie": {"Cookie: secret=" + good},
		"a user's cookie": {"Cookie: awx_sessionid=alice; csrftoken=t"},
	} {
		for _, path := range []string{"/websocket/broadcast/", "/websocket/relay", "/any/websocket/relay/"} {
			for _, protocol := range []string{"", "edgerelay.v1"} {
				w := f.wire(t)
				if err := w.Write(w.Handshake(path,
					append(headers, "Sec-WebSocket-Protocol: "+protocol)...)); err != nil {
					t.Fatal(err)
				}
				if resp, body, err := w.Response(); err != nil || resp.StatusCode != http.StatusForbidden ||
					body != "Forbidden\n" {
					t.Errorf("%s at %s: %v %q, %v", name, path, resp, body, err)
				}
			}
		}
	}
	// A recorded handshake of relays: the header, and the hello with its proof over nonces that are no longer.
	for range 3 {
		w := f.wire(t)
		if err := w.Shake("/websocket/broadcast/", "secret: "+good,
			"Sec-WebSocket-Protocol: edgerelay.v1"); err != nil {
			t.Fatal(err)
		}
		if hello := nextText(t, w); !strings.Contains(hello, `"type":"hello"`) {
			t.Fatalf("greeted with %s", hello)
		}
		say(t, w, `{"type":"hello","node":"N","layer":"L","nonce":"recorded","proof":"`+strings.Repeat("ab", 32)+`"}`)
		say(t, w, `{"type":"interest","seq":1,"reset":true,"join":["bystander-1"]}`)
		if code, texts, err := closeCode(w); err != nil || code != 1008 || texts > 0 {
			t.Errorf("closed with %d after %d messages, %v", code, texts, err)
		}
	}
}
