package asgi

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"time"
)

// channels_redis encrypts messages with Fernet (github.com/fernet/spec, version 0x80): AES-128-CBC, then HMAC-SHA256.
// A token is URL-safe base64 of
//
//	0x80 | Unix seconds, 8 bytes | initialization vector, 16 bytes | ciphertext | HMAC of all bytes before, 32 bytes
const (
	fernetVersion = 0x80
	fernetHead    = 1 + 8 + aes.BlockSize
	fernetLeast   = fernetHead + aes.BlockSize + sha256.Size
	// fernetSkew is how far the clock of an emitter may be ahead.
	fernetSkew = time.Minute
)

var (
	errNotEncrypted = errors.New("the message is not encrypted with Fernet")
	errWrongKey     = errors.New("the message is encrypted with another key")
	errTooOld       = errors.New("the message is older than expiry")
	errFromFuture   = errors.New("the time stamp is in the future; compare the clocks")
)

// fernetKey is a key, ready for use.
// See docs/decisions/layers.md#why-is-fernet-implemented-here
type fernetKey struct {
	sign  [16]byte
	block cipher.Block
}

// newFernetKey returns the key of 32 bytes: half to sign, half to encrypt.
func newFernetKey(key [32]byte) fernetKey {
	block, err := aes.NewCipher(key[16:])
	if err != nil {
		panic(err) // 16 bytes are a key
	}
	return fernetKey{sign: [16]byte(key[:16]), block: block}
}

func (k *fernetKey) mac() hash.Hash { return hmac.New(sha256.New, k.sign[:]) }

// keyring encrypts with the first key and decrypts with every key. An empty keyring does neither.
type keyring []fernetKey

// newKeyring makes keys of texts as channels_redis does, by their SHA-256.
func newKeyring(texts []string) keyring {
	ring := make(keyring, len(texts))
	for i, text := range texts {
		ring[i] = newFernetKey(sha256.Sum256([]byte(text)))
	}
	return ring
}

// seal appends plain as a token to dst.
func (r keyring) seal(dst, plain []byte, now time.Time) []byte {
	var iv [aes.BlockSize]byte
	_, _ = rand.Read(iv[:]) // never fails
	return r[0].seal(dst, plain, now, iv)
}

func (k *fernetKey) seal(dst, plain []byte, now time.Time, iv [aes.BlockSize]byte) []byte {
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	b := make([]byte, 0, fernetHead+len(plain)+padding+sha256.Size)
	b = append(b, fernetVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(now.Unix()))
	b = append(b, iv[:]...)
	b = append(b, plain...)
	for range padding {
		b = append(b, byte(padding))
	}
	cipher.NewCBCEncrypter(k.block, iv[:]).CryptBlocks(b[fernetHead:], b[fernetHead:])
	mac := k.mac()
	_, _ = mac.Write(b)
	return base64.URLEncoding.AppendEncode(dst, mac.Sum(b))
}

// open decrypts a token that is at most ttl old; 0 is any age.
func (r keyring) open(token []byte, ttl time.Duration, now time.Time) ([]byte, error) {
	b, err := base64.URLEncoding.AppendDecode(nil, token)
	if err != nil || len(b) < fernetLeast || b[0] != fernetVersion || (len(b)-fernetLeast)%aes.BlockSize != 0 {
		return nil, errNotEncrypted
	}
	if seconds := binary.BigEndian.Uint64(b[1:]); ttl > 0 {
		sent := time.Unix(int64(min(seconds, 1<<40)), 0)
		switch {
		case sent.Add(ttl).Before(now.Truncate(time.Second)):
			return nil, errTooOld
		case now.Add(fernetSkew).Before(sent):
			return nil, errFromFuture
		}
	}
	signed, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	var room [sha256.Size]byte
	for i := range r {
		mac := r[i].mac()
		_, _ = mac.Write(signed)
		if subtle.ConstantTimeCompare(mac.Sum(room[:0]), sum) != 1 {
			continue
		}
		text := signed[fernetHead:]
		cipher.NewCBCDecrypter(r[i].block, b[9:fernetHead]).CryptBlocks(text, text)
		return unpad(text)
	}
	return nil, errWrongKey
}

// unpad removes PKCS #7 padding. The padded text was signed, so an error about the padding is of no use to an attacker.
func unpad(b []byte) ([]byte, error) {
	n := int(b[len(b)-1])
	if n == 0 || n > aes.BlockSize {
		return nil, errNotEncrypted
	}
	for _, c := range b[len(b)-n:] {
		if int(c) != n {
			return nil, errNotEncrypted
		}
	}
	return b[: len(b)-n : len(b)-n], nil
}
