package sortedset

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/edgerelay/edgerelay/relay"
)

// sealer encrypts entries deterministically, so that all nodes write the same member for an event: AES-256-GCM with a
// nonce that is derived from the entry by another key. Two different entries have different nonces.
// See docs/decisions/history.md#why-are-entries-encrypted-with-a-derived-nonce
type sealer struct {
	aead  cipher.AEAD
	nonce *hasher
}

// keyring encrypts with the first key and decrypts with every key. An empty keyring does neither.
type keyring []sealer

func newKeyring(texts []string) keyring {
	ring := make(keyring, len(texts))
	for i, text := range texts {
		block, err := aes.NewCipher(derive([]byte(text), "edgerelay history: entries"))
		if err != nil {
			panic(err) // 32 bytes are a key
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			panic(err) // AES has the block size of GCM
		}
		ring[i] = sealer{aead, newHasher(derive([]byte(text), "edgerelay history: nonces"))}
	}
	return ring
}

// derive returns a key of 32 bytes for a purpose.
func derive(secret []byte, purpose string) []byte {
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(purpose))
	return mac.Sum(nil)
}

// context is the part of an entry that is not encrypted.
func sealContext(group string, at relay.Position) []byte {
	b := make([]byte, 0, 16+len(group))
	b = binary.BigEndian.AppendUint64(b, uint64(at.Micros))
	b = binary.BigEndian.AppendUint64(b, at.Mark)
	return append(b, group...)
}

// seal encrypts the text of an entry with the first key.
func (r keyring) seal(group string, at relay.Position, text []byte) string {
	s := &r[0]
	sum := s.nonce.sum(at.Micros, at.Mark, group, text)
	nonce := sum[:s.aead.NonceSize()]
	return string(s.aead.Seal(nonce, nonce, text, sealContext(group, at)))
}

// open decrypts the text of an entry with any of the keys. broken: none fits.
func (r keyring) open(group string, at relay.Position, sealed string) (text []byte, broken bool) {
	bound := sealContext(group, at)
	for i := range r {
		size := r[i].aead.NonceSize()
		if len(sealed) < size {
			return nil, true
		}
		text, err := r[i].aead.Open(nil, []byte(sealed[:size]), []byte(sealed[size:]), bound)
		if err == nil {
			return text, false
		}
	}
	return nil, true
}

// hasher is a keyed hash, HMAC-SHA-256, for concurrent use.
type hasher struct{ free chan *work }

// work is the state of a hash in progress. It is kept, so that a hash allocates nothing.
type work struct {
	mac  hash.Hash
	head []byte
	sum  [sha256.Size]byte
}

// hashersMax is the number of hashes at the same time.
const hashersMax = 8

func newHasher(key []byte) *hasher {
	h := &hasher{make(chan *work, hashersMax)}
	for range hashersMax {
		h.free <- &work{mac: hmac.New(sha256.New, key)}
	}
	return h
}

// sum returns the hash of an entry.
func (h *hasher) sum(micros int64, mark uint64, group string, text []byte) [sha256.Size]byte {
	w := <-h.free
	w.head = binary.BigEndian.AppendUint64(w.head[:0], uint64(micros))
	w.head = binary.BigEndian.AppendUint64(w.head, mark)
	w.head = append(append(w.head, byte(len(group))), group...)
	w.mac.Reset()
	_, _ = w.mac.Write(w.head)
	_, _ = w.mac.Write(text)
	w.mac.Sum(w.sum[:0])
	sum := w.sum
	h.free <- w
	return sum
}

// mark returns the mark of an event's position. An event with a type has another one than an event without, even if
// their texts are equal.
func (h *hasher) mark(ev *relay.Event, micros int64) uint64 {
	of := ev.Group
	if ev.Type != "" {
		of = typedContext(ev.Group) + ev.Type
	}
	sum := h.sum(micros, 0, of, ev.Text)
	return binary.BigEndian.Uint64(sum[:])
}
