package artifact

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Limits of signatures.
const (
	// MaxSignatures is the number of signatures that a module may have.
	MaxSignatures = 8
	// MaxSignatureFile is the size of all signatures of a module as JSON, in bytes.
	MaxSignatureFile = 64 << 10

	maxPayload = 4 << 10
)

// Signature is a signature of a module in the format of cosign. It covers the payload, which names the digest of the
// OCI manifest; that names the digest of the module.
type Signature struct {
	// Payload is the signed text.
	Payload []byte `json:"payload"`
	// Signature is the Ed25519 signature of Payload, or of its hash (Ed25519ph), as cosign makes it from 2.6 on.
	Signature []byte `json:"signature"`
	// Manifest is the OCI manifest of the module.
	Manifest []byte `json:"manifest"`
}

const (
	// purpose is the text that cosign writes into every payload. No other use of a key signs it.
	purpose = "cosign container image signature"
	// AnnotationPlugin names, within a payload, the plugins that the signature is for, with commas in between. A
	// signature without it is for every plugin.
	AnnotationPlugin = "edgerelay.plugin"
)

// payload is the signed text of a signature.
type payload struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// Sign signs a module for some plugins, or for every plugin.
func Sign(wasm []byte, private ed25519.PrivateKey, forPlugins ...string) (*Signature, error) {
	manifest, _, err := Pack(wasm)
	if err != nil {
		return nil, err
	}
	var p payload
	p.Critical.Image.Digest, p.Critical.Type = Digest(manifest), purpose
	if len(forPlugins) > 0 {
		for _, name := range forPlugins {
			if name == "" || strings.ContainsAny(name, ", ") {
				return nil, fmt.Errorf("invalid plugin name %q", name)
			}
		}
		p.Optional = map[string]any{AnnotationPlugin: strings.Join(forPlugins, ",")}
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return &Signature{Payload: text, Signature: ed25519.Sign(private, text), Manifest: manifest}, nil
}

// SignedBy reports whether the signature was made by the owner of a key. It says nothing about a module.
func (s *Signature) SignedBy(public ed25519.PublicKey) bool {
	if len(public) != ed25519.PublicKeySize {
		return false
	}
	if ed25519.Verify(public, s.Payload, s.Signature) {
		return true
	}
	hash := sha512.Sum512(s.Payload)
	return ed25519.VerifyWithOptions(public, hash[:], s.Signature, &ed25519.Options{Hash: crypto.SHA512}) == nil
}

// ErrSignature is wrapped by errors about missing and wrong signatures.
var ErrSignature = errors.New("signature refused")

// refusal is an error that wraps [ErrSignature] without its text.
type refusal struct{ text string }

func (e *refusal) Error() string        { return e.text }
func (e *refusal) Is(target error) bool { return target == ErrSignature }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// Verify checks that one of the keys has signed the module for a plugin, and returns the name of the key. A signature
// by another key is ignored. The error wraps [ErrSignature].
func (k Keys) Verify(wasm []byte, plugin string, signatures []Signature) (by string, err error) {
	digest := Digest(wasm)
	if len(signatures) == 0 {
		return "", refuse("the module %.19s is not signed; sign it with 'caddy edgerelay plugin sign' and one of the keys %s",
			digest, k)
	}
	if len(signatures) > MaxSignatures {
		return "", refuse("the module %.19s has %d signatures, more than %d", digest, len(signatures), MaxSignatures)
	}
	for _, s := range signatures {
		for _, key := range k {
			if !s.SignedBy(key.Public) {
				continue
			}
			if err = s.check(digest, plugin); err == nil {
				return key.Name, nil
			}
			err = refuse("signature by the key %s: %v", key.Name, err)
		}
	}
	if err == nil {
		err = refuse("the module %.19s is signed by none of the keys %s; sign it with one of them, or add the signer's "+
			"key to the configuration", digest, k)
	}
	return "", err
}

// check checks what a signature says, after the signature itself has been verified.
func (s *Signature) check(module, plugin string) error {
	p, err := s.parse()
	if err != nil {
		return err
	}
	if p.Critical.Image.Digest != Digest(s.Manifest) {
		return fmt.Errorf("it is for the OCI manifest %.19s, and %.19s came with the module; sign the module again",
			p.Critical.Image.Digest, Digest(s.Manifest))
	}
	m, err := ParseManifest(s.Manifest)
	if err != nil {
		return err
	}
	if m.Module().Digest != module {
		return fmt.Errorf("it is for the module %.19s, not %.19s; sign the module again", m.Module().Digest, module)
	}
	names, limited, err := p.plugins()
	switch {
	case err != nil:
		return err
	case limited && !slices.Contains(names, plugin):
		return fmt.Errorf("it is for the plugin %.200s, not %s; sign the module with --for %s",
			strings.Join(names, ", "), plugin, plugin)
	}
	return nil
}

func (s *Signature) parse() (*payload, error) {
	p := &payload{}
	if len(s.Payload) > maxPayload {
		return nil, fmt.Errorf("its payload has %d bytes, more than %d", len(s.Payload), maxPayload)
	}
	if err := json.Unmarshal(s.Payload, p); err != nil {
		return nil, errors.New("its payload is not valid JSON; sign the module again")
	}
	if p.Critical.Type != purpose {
		return nil, fmt.Errorf("its payload is of type %.80q, not %q; sign the module again", p.Critical.Type, purpose)
	}
	return p, nil
}

// plugins returns the plugins that a payload is limited to.
func (p *payload) plugins() (names []string, limited bool, err error) {
	value, limited := p.Optional[AnnotationPlugin]
	if !limited {
		return nil, false, nil
	}
	text, ok := value.(string)
	if !ok {
		return nil, true, fmt.Errorf("its annotation %s is not a text; sign the module again", AnnotationPlugin)
	}
	return strings.Split(text, ","), true, nil
}

// Plugins returns the plugins that the signature is for, nil for every plugin. It does not verify the signature.
func (s *Signature) Plugins() []string {
	p, err := s.parse()
	if err != nil {
		return nil
	}
	names, _, _ := p.plugins()
	return names
}

// file is the content of a file .sig.
type file struct {
	Signatures []Signature `json:"signatures"`
}

// ParseSignatures reads the signatures of a module: the content of a file .sig. It does not verify them.
func ParseSignatures(b []byte) ([]Signature, error) {
	if len(b) > MaxSignatureFile {
		return nil, fmt.Errorf("the signatures have %d bytes, more than %d", len(b), MaxSignatureFile)
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("the signatures are not valid: %w; sign the module again", err)
	}
	if n := len(f.Signatures); n == 0 || n > MaxSignatures {
		return nil, fmt.Errorf("%d signatures; a module has 1 to %d", n, MaxSignatures)
	}
	return f.Signatures, nil
}

// FormatSignatures returns the content of a file .sig.
func FormatSignatures(signatures []Signature) ([]byte, error) {
	if n := len(signatures); n > MaxSignatures {
		return nil, fmt.Errorf("%d signatures; a module has at most %d; remove the file .sig and sign again", n, MaxSignatures)
	}
	b, err := json.MarshalIndent(file{signatures}, "", "  ")
	if err == nil && len(b) > MaxSignatureFile {
		err = fmt.Errorf("the signatures have %d bytes, more than %d", len(b), MaxSignatureFile)
	}
	return append(b, '\n'), err
}

// Merge returns signatures with further ones, of which each replaces those with the same payload and signature.
func Merge(signatures []Signature, further ...Signature) []Signature {
	out := map[string]Signature{}
	for _, s := range append(slices.Clone(signatures), further...) {
		out[string(s.Payload)+"\x00"+string(s.Signature)] = s
	}
	merged := make([]Signature, 0, len(out))
	for _, key := range slices.Sorted(maps.Keys(out)) {
		merged = append(merged, out[key])
	}
	return merged
}
