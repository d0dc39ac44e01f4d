package ws

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	klauspost "github.com/klauspost/compress/flate"

	"github.com/edgerelay/edgerelay/relay"
)

// channel compresses the messages of a group, each once for all clients.
type channel struct {
	previous []byte
	last     uint64
}

// buffer is the forms of some frames.
type buffer struct {
	relay.Compressed
	forms [relay.FormCount][]byte
}

// compress returns the forms of messages. Messages below 64 bytes stay plain; if all do, Last is 0.
func (g *channel) compress(next *uint64, messages [][]byte) (z buffer) {
	z.Previous = g.last
	windows := [relay.FormCount][]byte{relay.Chained: g.previous}
	for _, m := range messages {
		for form := range relay.FormCount {
			if form == relay.Plain || len(m) < 64 {
				z.forms[form] = relay.AppendFrame(z.forms[form], m)
				continue
			}
			z.forms[form] = appendDeflated(z.forms[form], m, windows[form])
			z.Window[form] = max(z.Window[form], min(len(windows[form])+len(m), 32<<10))
			if form != relay.Each {
				windows[form] = m
			}
		}
		if len(m) >= 64 {
			*next++
			z.Last = *next
			g.previous = m
		}
	}
	if z.Last != 0 {
		g.last = z.Last
	}
	return z
}

// appendDeflated appends a frame with a compressed text, after the bytes that its client has in the window.
func appendDeflated(dst, text, window []byte) []byte {
	var b bytes.Buffer
	if err := klauspost.StatelessDeflate(&b, text, false, window); err != nil {
		panic(err)
	}
	at := len(dst)
	dst = relay.AppendFrame(dst, bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff")))
	dst[at] |= compressed
	return dst
}

// receiver decodes frames as a client with an agreement does.
type receiver struct {
	deflates, kept bool
	size           int // of the window
	window         []byte
	messages       [][]byte
}

func (r *receiver) receive(frames []byte) error {
	for len(frames) > 0 {
		n, head := int(frames[1]), 2
		switch n {
		case 126:
			n, head = int(frames[2])<<8|int(frames[3]), 4
		case 127:
			return errors.New("a frame of more than 64 KiB")
		}
		payload := frames[head : head+n]
		if frames[0]&compressed != 0 {
			if !r.deflates {
				return errors.New("a compressed frame without an agreement")
			}
			message, err := r.inflate(payload)
			if err != nil {
				return err
			}
			payload = message
		}
		r.messages = append(r.messages, payload)
		frames = frames[head+n:]
	}
	return nil
}

// inflate decodes a payload. The decoder of the standard library has a window of 32 KiB, so a second one gets other
// bytes in place of those that a smaller window has forgotten.
func (r *receiver) inflate(payload []byte) ([]byte, error) {
	decode := func(forgotten byte) ([]byte, error) {
		window := bytes.Repeat([]byte{forgotten}, 32<<10)
		window = append(window, r.window...)
		tail := strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")
		in := io.MultiReader(bytes.NewReader(payload), tail)
		return io.ReadAll(flate.NewReaderDict(in, window))
	}
	message, err := decode('a')
	if err != nil {
		return nil, err
	}
	if other, err := decode('b'); err != nil || !bytes.Equal(other, message) {
		return nil, fmt.Errorf("a message refers to bytes beyond the window of %d, %v", r.size, err)
	}
	if r.kept {
		r.window = append(r.window, message...)
		r.window = r.window[max(0, len(r.window)-r.size):]
	}
	return message, nil
}

// Clients with every agreement, which subscribe to changing groups, decode all that is chosen for them.
func TestChosenFormsCanBeDecoded(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	type client struct {
		offer    string
		conn     *Conn
		receiver *receiver
		groups   [4]bool
		want     [][]byte
	}
	var clients []*client
	for parameters, receiver := range map[string]*receiver{
		"":                             {deflates: true, kept: true, size: 32 << 10},
		"; client_max_window_bits":     {deflates: true, kept: true, size: 32 << 10},
		"; server_no_context_takeover": {deflates: true},
		"; server_max_window_bits=8":   {deflates: true, kept: true, size: 256},
		"; server_max_window_bits=11":  {deflates: true, kept: true, size: 2048},
		"; server_max_window_bits=9; server_no_context_takeover": {deflates: true},
		"x": {}, // an offer that is declined
	} {
		offer := "permessage-deflate" + parameters
		w, _ := negotiate(http.Header{"Sec-Websocket-Extensions": {offer}})
		clients = append(clients, &client{
			offer: offer, conn: &Conn{window: w, deflates: w.Deflates()}, receiver: receiver,
		})
	}
	var groups [4]channel
	var next uint64
	sent, plain := 0, 0
	for round := range 400 {
		g := r.IntN(len(groups))
		var messages [][]byte
		for range r.IntN(4) + 1 {
			messages = append(messages, fmt.Appendf(nil, `{"group":%d,"event":%d,"text":"%0*d"}`, g, round,
				r.IntN(900), r.IntN(9999)))
		}
		z := groups[g].compress(&next, messages)
		for _, c := range clients {
			if r.IntN(20) == 0 {
				c.groups[r.IntN(len(groups))] = r.IntN(3) > 0
			}
			if !c.groups[g] {
				continue
			}
			c.want = append(c.want, messages...)
			form := relay.Plain
			if c.conn.Deflates() && z.Last != 0 {
				form = c.conn.Choose(&z.Compressed)
			}
			if c.receiver.kept {
				sent, plain = sent+len(z.forms[form]), plain+len(z.forms[relay.Plain])
			}
			if err := c.receiver.receive(z.forms[form]); err != nil {
				t.Fatalf("seed %d: %q gets %s: %v", seed, c.offer, form, err)
			}
		}
	}
	for _, c := range clients {
		for i, m := range c.want {
			if !bytes.Equal(c.receiver.messages[i], m) {
				t.Fatalf("seed %d: %q, message %d: %.80q, want %.80q", seed, c.offer, i, c.receiver.messages[i], m)
			}
		}
	}
	if sent*2 > plain {
		t.Errorf("seed %d: %d bytes instead of %d", seed, sent, plain)
	}
}
