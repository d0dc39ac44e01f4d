package inflate

import (
	"bytes"
	stdflate "compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"
)

// The examples of RFC 7692 section 7.2.3 without context takeover, and what other libraries send.
var payloads = []struct{ name, payload, message string }{
	{"one block, 7.2.3.1", "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"},
	{"without compression, 7.2.3.3", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"},
	{"a final block, 7.2.3.4", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"},
	{"two blocks, 7.2.3.5", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello"},
	{"no message, 7.2.3.6", "\x00", ""},
	{"no message, in a Huffman block", "\x02\x00", ""},
	{"no payload", "", ""},
	{"the end of a flush that was kept", "\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff", "Hello"},
	{"a final block at the very end", "\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello"},
	{"two final blocks", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "HelloHello"},
	{
		"a final block without compression, and another block",
		"\x01\x05\x00\xfa\xffHello\xf2\x48\xcd\xc9\xc9\x07\x00", "HelloHello",
	},
	{"a repetition across a final block", "\xf3\x48\xcd\xc9\xc9\x07\x00\x02\x13\x00\x00", "HelloHello"},
}

func TestInflate(t *testing.T) {
	for _, c := range payloads {
		t.Run(c.name, func(t *testing.T) {
			message, err := Message([]byte(c.payload), 100)
			if err != nil || string(message) != c.message {
				t.Errorf("% x is %q, %v; want %q", c.payload, message, err, c.message)
			}
		})
	}
}

func TestInvalidPayloadsAreRejected(t *testing.T) {
	for name, payload := range map[string]string{
		"a reserved type of block":           "\x06",
		"the second message of a window":     "\xf2\x00\x11\x00\x00", // 7.2.3.2, which needs the first one
		"a block that ends early":            "\xf2\x48\xcd\xc9",
		"a block without compression, early": "\x00\x05\x00\xfa\xff\x48\x65",
		"a wrong length":                     "\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00",
		"junk behind a final block":          "\xf3\x48\xcd\xc9\xc9\x07\x00\xff\xff\xff",
		"no DEFLATE":                         "Hello, world",
	} {
		t.Run(name, func(t *testing.T) {
			if message, err := Message([]byte(payload), 100); !errors.Is(err, ErrInvalid) {
				t.Errorf("% x is %q, %v; want an error", payload, message, err)
			}
		})
	}
}

// deflated compresses a message for a client, after the bytes that its window holds.
func deflated(message, window []byte) []byte {
	var b bytes.Buffer
	if err := flate.StatelessDeflate(&b, message, false, window); err != nil {
		panic(err)
	}
	if len(message) == 0 {
		return []byte{0}
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

// flushed is a message as zlib's sync flush makes it.
func flushed(level int, pieces ...[]byte) []byte {
	var b bytes.Buffer
	w, _ := stdflate.NewWriter(&b, level)
	for _, p := range pieces {
		_, _ = w.Write(p)
		_ = w.Flush()
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

func TestInflatedLengthIsLimited(t *testing.T) {
	for _, length := range []int{0, 1, 511, 512, 513, 4095, 4096, 70_000} {
		message := bytes.Repeat([]byte("x"), length)
		payload := flushed(9, message)
		limits := map[int]bool{length: true, length + 1: true, length - 1: false, length / 2: length == 0}
		for limit, ok := range limits {
			if limit < 0 {
				continue
			}
			got, err := Message(payload, limit)
			switch {
			case ok && (err != nil || !bytes.Equal(got, message)):
				t.Errorf("%d bytes with a limit of %d: %d bytes, %v", length, limit, len(got), err)
			case !ok && !errors.Is(err, ErrTooLong):
				t.Errorf("%d bytes with a limit of %d: %v, want %v", length, limit, err, ErrTooLong)
			}
		}
	}
}

// A gigabyte of zeros costs as much memory as the limit.
func TestBombs(t *testing.T) {
	payload := flushed(9, make([]byte, 64<<20))
	const limit = 64 << 10
	var failed error
	if n := testing.AllocsPerRun(10, func() { _, failed = Message(payload, limit) }); n > 20 {
		t.Errorf("a bomb takes %v allocations", n)
	}
	if !errors.Is(failed, ErrTooLong) {
		t.Errorf("a bomb ends with %v, want %v", failed, ErrTooLong)
	}
}

// noise returns bytes that compress to a degree: 0 is random, 255 a single byte.
func noise(r *rand.Rand, length int, degree uint8) []byte {
	b := make([]byte, length)
	for i := range b {
		if i > 0 && uint8(r.IntN(256)) < degree {
			b[i] = b[r.IntN(i)]
		} else {
			b[i] = byte(r.Uint32())
		}
	}
	return b
}

// What any compressor makes, in any number of pieces and final blocks, is inflated to the message.
func TestInflateUndoesDeflate(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		message := noise(r, r.IntN(r.IntN(50_000)+1), uint8(r.IntN(256)))
		level := r.IntN(12) - 2
		var pieces [][]byte
		for rest := message; len(rest) > 0; {
			n := r.IntN(len(rest)) + 1
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		var finals []byte
		for _, p := range pieces {
			var b bytes.Buffer
			w, _ := stdflate.NewWriter(&b, level)
			_, _ = w.Write(p)
			_ = w.Close()
			finals = append(finals, b.Bytes()...)
		}
		for name, payload := range map[string][]byte{
			"one flush": flushed(level, message), "flushes": flushed(level, pieces...),
			"stateless": deflated(message, nil), "final blocks": append(finals, 0),
			"final blocks, the last without a byte": finals,
		} {
			got, err := Message(payload, len(message))
			if err != nil || !bytes.Equal(got, message) {
				t.Fatalf("seed %d: %s of %d bytes at level %d: %d bytes, %v", seed, name, len(message), level,
					len(got), err)
			}
		}
	}
}

// expectMessage is what the standard library makes of a payload. ok is false if the payload is invalid or the message
// too long.
func expectMessage(payload []byte, limit int) (message []byte, ok bool) {
	for rest := payload; len(rest) > 0; {
		part, used, ok := expectPart(rest, "\x00\x00\xff\xff", message, limit)
		if !ok { // the payload may end with any block
			if part, used, ok = expectPart(rest, "", message, limit); !ok {
				return nil, false
			}
		}
		message, rest = append(message, part...), rest[used:]
	}
	return message, true
}

// expectPart decodes the beginning of a payload up to a final block, which is used bytes long, or all of it. The
// decoder sees the end by a final block without content. It could take its bytes for content, so there are two such
// blocks, one after the other.
func expectPart(payload []byte, tail string, window []byte, limit int) (part []byte, used int, ok bool) {
	for i, end := range []string{"\x01\x00\x00\xff\xff", "\x03\x00"} {
		in := bytes.NewReader(append(bytes.Clone(payload), tail+end...))
		got, err := io.ReadAll(io.LimitReader(stdflate.NewReaderDict(in, window), int64(limit-len(window)+1)))
		left := in.Len() - len(tail) - len(end)
		if in.Len() == 0 || in.Len() == len(end) { // all of the tail is used
			left = 0
		}
		if err != nil || left < 0 || len(window)+len(got) > limit || i > 0 && !bytes.Equal(got, part) {
			return nil, 0, false
		}
		part, used = got, len(payload)-left
	}
	return part, used, true
}

// FuzzInflate compares the inflater with another implementation.
func FuzzInflate(f *testing.F) {
	for _, c := range payloads {
		f.Add([]byte(c.payload))
	}
	for _, level := range []int{-2, 0, 1, 9} {
		f.Add(flushed(level, []byte(strings.Repeat("Hello, world. ", 20)), []byte("bye")))
	}
	f.Add(flushed(9, make([]byte, 5000)))
	f.Fuzz(func(t *testing.T, payload []byte) {
		const limit = 4000
		got, err := Message(payload, limit)
		want, ok := expectMessage(payload, limit)
		if (err == nil) != ok || ok && !bytes.Equal(got, want) {
			t.Errorf("% x is %.99q, %v; want %.99q, %v", payload, got, err, want, ok)
		}
	})
}

// A decoder is on the stack.
func TestInflateAllocatesOnlyTheMessage(t *testing.T) {
	payload := flushed(6, noise(rand.New(rand.NewPCG(1, 2)), 1000, 100))
	if n := testing.AllocsPerRun(100, func() { _, _ = Message(payload, 4096) }); n > 1 {
		t.Errorf("a message takes %v allocations, want 1", n)
	}
}

// bitWriter appends bits to bytes, as DEFLATE does.
type bitWriter struct {
	b    []byte
	bits int
}

// write appends the n low bits of v, the lowest first.
func (w *bitWriter) write(v, n int) {
	for ; n > 0; n-- {
		if w.bits%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.bits/8] |= byte(v&1) << (w.bits % 8)
		v >>= 1
		w.bits++
	}
}

// code appends a Huffman code, the highest bit first.
func (w *bitWriter) code(v, n int) {
	for i := n - 1; i >= 0; i-- {
		w.write(v>>i, 1)
	}
}

// tables returns a payload without content, about n bytes of blocks that take a decoder much work for their length:
// three quarters of the codes begin with two short ones, and all others need tables of the second level.
func tables(n int) []byte {
	// The lengths of the codes have codes of their own. Symbol 16 repeats a length three to six times.
	order := []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	codes := map[int][2]int{
		16: {0, 1}, 10: {0b10, 2}, 0: {24, 5}, 1: {25, 5}, 2: {26, 5},
		11: {27, 5}, 12: {28, 5}, 13: {29, 5}, 14: {30, 5}, 15: {31, 5},
	}
	lengths := []int{1, 2, 10}
	for range 42 {
		lengths = append(lengths, 16)
	}
	lengths = append(lengths, 10, 10, 11, 12, 13, 14, 15, 15, 0) // the last one is that of a distance
	var w bitWriter
	for len(w.b) < n {
		w.write(0, 1)       // not final
		w.write(2, 2)       // with tables
		w.write(263-257, 5) // lengths of 263 symbols
		w.write(0, 5)       // and of one distance
		w.write(19-4, 4)
		for _, symbol := range order {
			w.write(codes[symbol][1], 3)
		}
		for _, symbol := range lengths {
			w.code(codes[symbol][0], codes[symbol][1])
			if symbol == 16 {
				w.write(3, 2)
			}
		}
		w.code(1022, 10) // the end of the block
	}
	w.write(0, 3)
	return w.b
}

// BenchmarkInflate has the usual messages, and the ones that cost most for their length.
func BenchmarkInflate(b *testing.B) {
	const limit = 64 << 10
	small := []byte(`{"groups":{"job_events":["1234"],"control":["limit_reached_1"]},"xrftoken":"0123456789abcdef"}`)
	finals := bytes.Repeat([]byte("\x03\x00"), limit/2)
	for _, c := range []struct {
		name    string
		payload []byte
	}{
		{"subscription", flushed(6, small)},
		{"zeros", flushed(9, make([]byte, limit))},
		{"noise", flushed(9, noise(rand.New(rand.NewPCG(1, 2)), limit, 0))},
		{"tables", tables(limit)},
		{"final blocks", finals},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.payload)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Message(c.payload, limit); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
