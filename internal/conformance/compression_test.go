package conformance

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
)

// compressed is RSV1, which marks the first frame of a compressed message.
const compressed = 0x40

// usual is the offer of Chromium, and usualAnswer the answer to it.
const (
	usual       = "permessage-deflate; client_max_window_bits"
	usualAnswer = "permessage-deflate; client_no_context_takeover"
)

// agree sends a handshake with offers, and expects an answer (empty: none) and the greeting.
func agree(offers, answer string) step {
	return func(s *session) error {
		request := s.Handshake("/websocket/", "Cookie: csrftoken=t", "Sec-WebSocket-Extensions: "+offers)
		if err := s.Write(request); err != nil {
			return err
		}
		resp, _, err := s.Response()
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			return fmt.Errorf("%v, %v", resp, err)
		}
		if got := strings.Join(resp.Header.Values("Sec-Websocket-Extensions"), ", "); got != answer {
			return fmt.Errorf("the answer is %q, want %q", got, answer)
		}
		return greeted(s)
	}
}

// deflated compresses a message, flushing between its parts.
func deflated(level int, parts ...string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, level)
	for _, p := range parts {
		_, _ = io.WriteString(w, p)
		_ = w.Flush()
	}
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// finished compresses a message to a final block.
func finished(message string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 9)
	_, _ = io.WriteString(w, message)
	_ = w.Close()
	return b.String() + "\x00"
}

// pieces is a compressed message in fragments of n bytes.
func pieces(first byte, payload string, n int) string {
	frames := []byte(inFragments(first, payload, n))
	frames[0] |= compressed
	return string(frames)
}

// compression goes through category 12: the offers of clients, and their messages.
func compression() (list []testCase) {
	add := func(part, n int, name string, steps ...step) {
		list = append(list, testCase{fmt.Sprintf("12.%d.%d", part, n), name, steps})
	}
	for i, c := range []struct{ offer, answer string }{
		{"permessage-deflate", usualAnswer},
		{usual, usualAnswer},
		{"permessage-deflate; client_max_window_bits=8", usualAnswer},
		{"permessage-deflate; client_no_context_takeover", usualAnswer},
		{"permessage-deflate; server_no_context_takeover", usualAnswer + "; server_no_context_takeover"},
		{"permessage-deflate; server_max_window_bits=9", usualAnswer + "; server_max_window_bits=9"},
		{`permessage-deflate; server_max_window_bits="15"`, usualAnswer + "; server_max_window_bits=15"},
		{"permessage-deflate; x, " + usual, usualAnswer},
		{
			"permessage-bzip2, permessage-deflate; server_no_context_takeover, permessage-deflate",
			usualAnswer + "; server_no_context_takeover",
		},
		{"permessage-bzip2, x-webkit-deflate-frame", ""},
		{"permessage-deflate; client_max_window_bits=99999999999", ""},
		{"permessage-deflate; server_max_window_bits", ""},
		{"permessage-deflate; server_max_window_bits=7", ""},
		{"permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""},
		{"permessage-deflate; client_no_context_takeover=1", ""},
		{"permessage-deflate; level=9", ""},
		{"permessage-deflate;", ""},
		{",;,", ""},
	} {
		steps := do(agree(c.offer, c.answer), alive)
		if c.answer == "" {
			steps = append(steps, send(frame(text|compressed, deflated(9, "x"))), wantClose(1002))
		} else {
			steps = append(steps, send(frame(text|compressed, deflated(9, "x"))), want(text, notJSON), alive)
		}
		add(1, i+1, c.offer, steps...)
	}
	agreed := agree(usual, usualAnswer)
	for i, size := range []int{64, 256, 1024, 4096, 8192, 16384, 32768, 65536, limit} {
		message := subscription(max(size, 100))
		add(2, 3*i+1, fmt.Sprint("a message of ", size, " bytes"), agreed,
			send(frame(text|compressed, deflated(6, message))), joined, alive)
		add(2, 3*i+2, fmt.Sprint("a message of ", size, " bytes in fragments"), agreed,
			send(pieces(text, deflated(6, message), 1+size/64)), joined, alive)
		add(2, 3*i+3, fmt.Sprint("a message of ", size, " bytes that cannot be compressed"), agreed,
			send(frame(binary|compressed, deflated(1, random(size)))), want(text, notText), alive)
	}
	message := subscription(300)
	for i, c := range []struct{ name, payload string }{
		{"stored blocks", deflated(flate.NoCompression, message)},
		{"Huffman codes only", deflated(flate.HuffmanOnly, message)},
		{"the fastest compression", deflated(flate.BestSpeed, message)},
		{"the best compression", deflated(flate.BestCompression, message)},
		{"several blocks", deflated(6, message[:100], message[100:200], message[200:])},
		{"a final block", finished(message)},
		{"a final block and others", strings.TrimSuffix(finished(message[:99]), "\x00") + deflated(6, message[99:])},
		{"blocks without content", "\x00\x00\x00\xff\xff" + deflated(6, message)},
	} {
		add(3, 2*i+1, c.name, agreed, send(frame(text|compressed, c.payload)), joined, alive)
		add(3, 2*i+2, c.name+", byte by byte", agreed, chop(1, frame(text|compressed, c.payload)), joined, alive)
	}
	payload := deflated(6, message)
	for i, steps := range [][]step{
		do(send(frame(text|compressed, "\x00")), want(text, notJSON)),
		do(send(frame(text|compressed, "")), want(text, notJSON)),
		do(send(frame(text|compressed, payload), frame(text, "x"), frame(text|compressed, payload)), joined,
			want(text, notJSON), want(text, `{"groups_current": ["echo-1"], "groups_left": [], "groups_joined": []}`)),
		do(send(frame(textBegin|compressed, payload[:9]), frame(ping, "p")), want(pong, "p"),
			send(frame(more, ""), frame(more, payload[9:11]), frame(pong, ""), frame(last, payload[11:])), joined),
	} {
		add(4, i+1, "among others", append(do(agreed), append(steps, alive)...)...)
	}
	for i, c := range []struct {
		name   string
		frames string
		code   int
	}{
		{"a compressed ping", frame(ping|compressed, ""), 1002},
		{"a compressed pong", frame(pong|compressed, ""), 1002},
		{"a compressed close", frame(closing|compressed, "\x03\xe8"), 1002},
		{
			"RSV1 on the last fragment",
			frame(textBegin|compressed, payload[:9]) + frame(last|compressed, payload[9:]), 1002,
		},
		{"RSV1 on a fragment of a plain message", frame(textBegin, "x") + frame(last|compressed, payload), 1002},
		{"RSV1 and RSV2", frame(text|0x60, payload), 1002},
		{"RSV1 and RSV3", frame(text|0x50, payload), 1002},
		{"not DEFLATE", frame(text|compressed, "Hello, world"), 1007},
		{"a block that ends early", frame(text|compressed, payload[:20]), 1007},
		{"a message that refers to another", frame(text|compressed, "\xf2\x00\x11\x00\x00"), 1007},
		{"text that is no UTF-8", frame(text|compressed, deflated(6, "\xff")), 1007},
		{"text that ends inside a character", frame(text|compressed, deflated(6, "\xce")), 1007},
		{"one byte more than the limit", frame(text|compressed, deflated(9, pad(limit+1))), 1009},
		{"a bomb", frame(text|compressed, deflated(9, strings.Repeat("\x00", 64<<20))), 1009},
		{"a bomb in fragments", pieces(binary, deflated(9, strings.Repeat("\x00", 8<<20)), 1000), 1009},
		{"a payload longer than any message's", frame(binary|compressed, strings.Repeat("\x00", 2*limit)), 1009},
		{"a length of 2^63 - 1 bytes", header(text|compressed, 1<<63-1), 1009},
	} {
		add(5, i+1, c.name, agreed, send(c.frames), wantClose(c.code))
	}
	return list
}

// random is bytes that no compressor makes shorter.
func random(n int) string {
	r := rand.New(rand.NewPCG(uint64(n), 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// words is text of about n bytes, which compressors make shorter.
func words(n int) string {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "word-%d ", r.IntN(50))
	}
	return b.String()
}

// agreements goes through category 13: events in the forms that each agreement permits. The first seven are those of
// the Autobahn test suite.
func agreements() (list []testCase) {
	for i, c := range []struct {
		offer, answer string
		window        int
		kept          bool
	}{
		{"permessage-deflate", usualAnswer, 32 << 10, true},
		{
			"permessage-deflate; server_no_context_takeover", usualAnswer + "; server_no_context_takeover",
			32 << 10, false,
		},
		{"permessage-deflate; server_max_window_bits=9", usualAnswer + "; server_max_window_bits=9", 512, true},
		{"permessage-deflate; server_max_window_bits=15", usualAnswer + "; server_max_window_bits=15", 32 << 10, true},
		{
			"permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
			usualAnswer + "; server_no_context_takeover; server_max_window_bits=9", 512, false,
		},
		{
			"permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
			usualAnswer + "; server_no_context_takeover; server_max_window_bits=15", 32 << 10, false,
		},
		{
			"permessage-deflate; server_no_context_takeover; server_max_window_bits=9, permessage-deflate",
			usualAnswer + "; server_no_context_takeover; server_max_window_bits=9", 512, false,
		},
		{"permessage-deflate; server_max_window_bits=8", usualAnswer + "; server_max_window_bits=8", 256, true},
		{"permessage-deflate; server_max_window_bits=12", usualAnswer + "; server_max_window_bits=12", 4096, true},
		{"permessage-bzip2", "", 0, false},
	} {
		for k, size := range []int{16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072} {
			number := fmt.Sprintf("13.%d.%d", i+1, k+1)
			list = append(list, testCase{number, fmt.Sprint(size, " bytes with ", c.offer), do(
				agree(c.offer, c.answer), events(number, size, c.window, c.kept), alive,
			)})
		}
	}
	return list
}

// events subscribes to a group of the case, publishes events of about size bytes, and decodes them as a client with a
// window does.
func events(number string, size, window int, kept bool) step {
	return func(s *session) error {
		_, port, _ := strings.Cut(s.Host, ":")
		item := strings.ReplaceAll(number, ".", "_") + "_" + port
		message := fmt.Sprintf(`{"groups": {"size": [%q]}, "xrftoken": "t"}`, item)
		if err := s.Write(frame(text, message)); err != nil {
			return err
		}
		answer := fmt.Sprintf(`{"groups_current": [%q], "groups_left": [], "groups_joined": [%[1]q]}`, "size-"+item)
		if err := want(text, answer)(s); err != nil {
			return err
		}
		c := decoder{window: window, kept: kept}
		received := 0
		for i := range 4 {
			data := fmt.Sprintf(`{"event": %d, "text": %q}`, i, words(size))
			if err := s.publish("size-"+item, data); err != nil {
				return err
			}
			n, err := c.expect(s, data)
			if err != nil {
				return fmt.Errorf("event %d: %w", i, err)
			}
			received += n
		}
		if size >= 1024 && size < window && received > 3*size {
			return fmt.Errorf("4 events of %d bytes take %d", size, received)
		}
		return nil
	}
}

// decoder is the decompressor of a client.
type decoder struct {
	window int
	kept   bool
	past   []byte
}

// expect reads an event, and returns the length of its frame's payload.
func (c *decoder) expect(s *session, data string) (n int, err error) {
	f, err := s.next()
	if err != nil {
		return 0, err
	}
	n = len(f.Payload)
	if f.First == text|compressed && c.window > 0 {
		if f.Payload, err = c.inflate(f.Payload); err != nil {
			return 0, err
		}
		f.First = text
	}
	if f.First != text || string(f.Payload) != data {
		return 0, fmt.Errorf("%#x %.99q, want %.99q", f.First, f.Payload, data)
	}
	return n, nil
}

// inflate decodes a payload. The decoder of the standard library always has a window of 32 KiB. So a second one gets
// other bytes in place of those that a smaller window has forgotten.
func (c *decoder) inflate(payload []byte) (message []byte, err error) {
	for i, forgotten := range []string{"a", "b"} {
		past := append(bytes.Repeat([]byte(forgotten), 32<<10), c.past...)
		tail := strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")
		got, err := io.ReadAll(flate.NewReaderDict(io.MultiReader(bytes.NewReader(payload), tail), past))
		if err != nil {
			return nil, err
		}
		if i > 0 && !bytes.Equal(got, message) {
			return nil, fmt.Errorf("the message refers to bytes beyond the window of %d", c.window)
		}
		message = got
	}
	if c.kept {
		c.past = append(c.past, message...)
		c.past = c.past[max(0, len(c.past)-c.window):]
	}
	return message, nil
}
