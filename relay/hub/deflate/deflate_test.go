package deflate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// client decodes what it gets by a window of its own.
type client struct {
	relay.Window
	relaytest.Inflater
}

func newClient(bits int, kept bool) *client {
	return &client{relay.NewWindow(bits, kept), relaytest.Inflater{Bits: bits, Forgets: !kept}}
}

// receive returns the texts of a buffer in the form that the client chooses, and the number of bytes.
func (c *client) receive(b *Buffer) (texts []string, form relay.Form, size int, err error) {
	form = c.Choose(&b.Compressed)
	frames := b.Frames(form)
	size = len(frames)
	for len(frames) > 0 {
		head, end := frameEnds(frames)
		text := frames[head:end]
		if frames[0]&compressedBit != 0 {
			if text, err = c.Message(text); err != nil {
				return nil, form, 0, err
			}
		}
		texts = append(texts, string(text))
		frames = frames[end:]
	}
	return texts, form, size, nil
}

func framesOf(min int, texts ...string) (f Frames) {
	for _, text := range texts {
		f.Bytes = relay.AppendFrame(f.Bytes, []byte(text))
		if n := len(text); n >= min {
			f.Count, f.Total, f.Longest, f.Last = f.Count+1, f.Total+n, max(f.Longest, n), []byte(text)
		}
	}
	return f
}

func newCompressor(t testing.TB, s Settings) *Compressor {
	c := New(s)
	t.Cleanup(c.Close)
	return c
}

// Clients with all kinds of windows, which miss some buffers, decode exactly the texts of the others.
func TestClientsDecodeTheirBuffers(t *testing.T) {
	for _, level := range []int{1, 5, 9} {
		t.Run(fmt.Sprint("level ", level), func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, uint64(level)))
			c := newCompressor(t, Settings{MinSize: 100, Level: level})
			var clients []*client
			for _, bits := range []int{8, 10, 12, 15} {
				clients = append(clients, newClient(bits, true), newClient(bits, false), newClient(bits, true))
			}
			chosen := map[relay.Form]int{}
			for round := range 80 {
				key := Key{Group: fmt.Sprint("g", r.IntN(2)), Classes: uint64(r.IntN(2))}
				texts := []string{randomText(r, 100)}
				for range r.IntN(4) {
					texts = append(texts, randomText(r, 1<<r.IntN(15)))
				}
				r.Shuffle(len(texts), func(i, k int) { texts[i], texts[k] = texts[k], texts[i] })
				b := c.Buffer(key, framesOf(100, texts...))
				for i, client := range clients {
					if r.IntN(10) == 0 {
						continue
					}
					got, form, _, err := client.receive(b)
					if err != nil || !slices.Equal(got, texts) {
						t.Fatalf("round %d, client %d, %s: %v; %d texts, want %d", round, i, form, err, len(got), len(texts))
					}
					chosen[form]++
				}
			}
			for form := range relay.FormCount {
				if chosen[form] == 0 {
					t.Errorf("no client has chosen %s", form)
				}
			}
		})
	}
}

// randomText returns a text of at least n bytes that resembles others.
func randomText(r *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, `{"id": %d, "event": "runner_on_ok", "host": "host-%d"}`, r.IntN(1e6), r.IntN(10))
	}
	return b.String()
}

// Binary frames stay binary.
func TestOpcodesAreKept(t *testing.T) {
	c := newCompressor(t, Settings{MinSize: 1, Level: 1})
	f := framesOf(1, randomText(rand.New(rand.NewPCG(1, 1)), 500))
	f.Bytes[0] = 0x82
	if frames := c.Buffer(Key{}, f).Frames(relay.Alone); frames[0] != 0xc2 || len(frames) > len(f.Bytes)/2 {
		t.Errorf("the frame begins with %#x and has %d of %d bytes", frames[0], len(frames), len(f.Bytes))
	}
}

// A message of random bytes, and one longer than the window, can be decoded.
func TestUnusualMessages(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	noise := make([]byte, 200_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	c := newCompressor(t, Settings{MinSize: 1, Level: 1})
	client := newClient(15, true)
	for _, text := range []string{
		"x", string(noise), string(noise[:700]), strings.Repeat("a", 1<<20), string(noise[:33_000]), "x",
	} {
		for range 2 {
			b := c.Buffer(Key{}, framesOf(1, text))
			if got, form, size, err := client.receive(b); err != nil || len(got) != 1 || got[0] != text ||
				size > len(b.frames.Bytes)+len(text)/500+20 {
				t.Fatalf("%d bytes, %s: %v; %d bytes", len(text), form, err, size)
			}
		}
	}
}

// A key refers to its own messages only: a text of one class has the same length whatever another class gets.
func TestClassesDoNotMeet(t *testing.T) {
	secret := randomText(rand.New(rand.NewPCG(5, 5)), 1000)
	size := func(other string) (n int) {
		c := newCompressor(t, Settings{MinSize: 1, Level: 1})
		c.Buffer(Key{Group: "g", Classes: 1}, framesOf(1, other))
		b := c.Buffer(Key{Group: "g", Classes: 2}, framesOf(1, secret))
		if b.Previous != 0 {
			t.Error("a message refers to one of another class")
		}
		return len(b.Frames(relay.Alone))
	}
	if a, b := size(secret), size("nothing of the kind"); a != b {
		t.Errorf("%d bytes beside the same text, %d beside another", a, b)
	}
}

func TestExclusion(t *testing.T) {
	c := newCompressor(t, Settings{MinSize: 1, Level: 1, Exclude: []string{"ad_hoc-*", "x"}})
	for group, want := range map[string]bool{"ad_hoc-1": true, "x": true, "xy": false, "job_events-1": false} {
		if c.Excludes(group) != want {
			t.Errorf("%s: excluded is %v", group, !want)
		}
	}
}

// The memory of many groups is bounded, and what a quiet group takes is given back.
func TestMemoryIsBoundedAndGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Settings{MinSize: 1, Level: 1})
		defer c.Close()
		long := framesOf(1, strings.Repeat("x", 2*maxDistance))
		most := 0
		for i := range 3000 {
			c.Buffer(Key{Group: fmt.Sprint(i)}, long)
			_, bytes := c.Remembered()
			most = max(most, bytes)
		}
		if most > maxMemory+maxDistance+keyMemory || most < maxMemory/2 {
			t.Errorf("%d bytes remembered at once", most)
		}
		if b := c.Buffer(Key{Group: "2999"}, long); b.Previous == 0 {
			t.Error("the latest message has been forgotten")
		}
		if b := c.Buffer(Key{Group: "0"}, long); b.Previous != 0 {
			t.Error("the oldest message has been kept")
		}
		time.Sleep(idleTime + time.Second)
		c.Buffer(Key{Group: "busy"}, long)
		time.Sleep(idleTime)
		if n, _ := c.Remembered(); n != 1 {
			t.Errorf("%d messages remembered, want that of the busy group", n)
		}
		if b := c.Buffer(Key{Group: "busy"}, long); b.Previous == 0 {
			t.Error("the busy group's message has been forgotten")
		}
		time.Sleep(3 * idleTime)
		if n, bytes := c.Remembered(); n != 0 || bytes != 0 || c.idle != nil {
			t.Errorf("%d messages of %d bytes are left", n, bytes)
		}
	})
}

func TestSettings(t *testing.T) {
	for _, s := range []Settings{{0, 1, nil}, {1, 0, nil}, {1, 10, nil}} {
		if s.Validate() == nil {
			t.Errorf("%v is valid", s)
		}
	}
	if s := (Settings{DefaultMinSize, DefaultLevel, nil}); s.Validate() != nil {
		t.Error("the defaults are invalid")
	}
}

// Whatever the texts are, a client decodes them, alone and chained.
func FuzzForms(f *testing.F) {
	f.Add([]byte("one"), []byte("two"), uint8(1))
	f.Add(bytes.Repeat([]byte("abc"), 20_000), bytes.Repeat([]byte("bca"), 30_000), uint8(9))
	f.Add([]byte{}, []byte{0}, uint8(200))
	f.Fuzz(func(t *testing.T, first, second []byte, min uint8) {
		c := newCompressor(t, Settings{MinSize: int(min) + 1, Level: 1})
		clients := []*client{newClient(15, true), newClient(15, false), newClient(9, true)}
		texts := []string{string(first), string(second), string(first)}
		for range 3 {
			frames := framesOf(int(min)+1, texts...)
			if frames.Count == 0 {
				return
			}
			b := c.Buffer(Key{}, frames)
			for _, client := range clients {
				if got, form, _, err := client.receive(b); err != nil || !slices.Equal(got, texts) {
					t.Fatalf("%s: %v", form, err)
				}
			}
			slices.Reverse(texts)
		}
	})
}
