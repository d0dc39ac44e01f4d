package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// SignatureSuffix is the suffix of the file with the signatures of a module's file.
const SignatureSuffix = ".sig"

// SigningKey is a public key of which modules need a signature.
type SigningKey struct {
	// Name identifies the key in the setting keys of plugins and in messages.
	Name string `json:"name"`
	// Key is the Ed25519 public key, base64: the line that "plugin keygen" prints, or the text within a PEM file.
	Key string `json:"key"`
}

// ReadSigningKey reads `plugin_key <name> <key>`.
func ReadSigningKey(d *caddyfile.Dispenser) (*SigningKey, error) {
	k := &SigningKey{}
	if !d.AllArgs(&k.Name, &k.Key) {
		return nil, d.Err("plugin_key needs a name and a public key; 'caddy edgerelay plugin keygen <name>' prints the line")
	}
	return k, nil
}

// ParseKeys checks keys.
func ParseKeys(list []*SigningKey) (keys artifact.Keys, err error) {
	seen := map[string]bool{}
	for _, k := range list {
		if !validKeyName(k.Name) {
			return nil, fmt.Errorf("edgerelay: plugin_key: invalid name %q; use 1 to 64 letters, digits, '-' and '_'", k.Name)
		}
		if seen[k.Name] {
			return nil, fmt.Errorf("edgerelay: plugin_key %s is given twice; remove one", k.Name)
		}
		seen[k.Name] = true
		public, err := artifact.ParsePublicKey(k.Key)
		if err != nil {
			return nil, fmt.Errorf("edgerelay: plugin_key %s: %w", k.Name, err)
		}
		keys = append(keys, artifact.Key{Name: k.Name, Public: public})
	}
	return keys, nil
}

func validKeyName(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	})
}

// SetKeys sets the keys of which one must have signed the plugin's module: those that the setting keys names, or all.
// Without keys, no signature is needed.
func (p *Plugin) SetKeys(all artifact.Keys) error {
	p.keys = nil
	if len(p.Keys) == 0 {
		p.keys = all
	}
	for _, name := range p.Keys {
		found := false
		for _, k := range all {
			if k.Name == name {
				p.keys, found = append(p.keys, k), true
			}
		}
		if !found {
			return fmt.Errorf("edgerelay: plugin %s: keys: unknown key %q; add 'plugin_key %s <key>' beside the plugin",
				p.Name, name, name)
		}
	}
	p.trust = ""
	for _, k := range p.keys {
		p.trust += fmt.Sprintf("%x ", k.Public)
	}
	return nil
}

// signedModule is a module with its signatures, which are not verified yet.
type signedModule struct {
	wasm       []byte
	signatures []artifact.Signature
	// signaturesErr is the reason why the signatures cannot be read. It counts only where keys are configured.
	signaturesErr error
}

// signedModule returns the module of a version.
func (v *version) signedModule() signedModule {
	return signedModule{wasm: v.wasm, signatures: v.signatures}
}

// readSignatures reads the signatures beside a module's file. A file without signatures has none.
func (m *signedModule) readSignatures(module string) {
	b, err := readRegular(module+SignatureSuffix, artifact.MaxSignatureFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		m.signatures, err = artifact.ParseSignatures(b)
	}
	if err != nil {
		m.signaturesErr = fmt.Errorf("%s%s: %w", module, SignatureSuffix, err)
	}
}

// verify checks the signatures of a module, and returns the name of a key that made one of them. Without keys, every
// module is accepted.
func (p *Plugin) verify(m signedModule) (by string, err error) {
	if len(p.keys) == 0 && len(p.Keys) == 0 {
		return "", nil
	}
	if m.signaturesErr != nil {
		return "", fmt.Errorf("plugin %s: %w: %w", p.Name, artifact.ErrSignature, m.signaturesErr)
	}
	if by, err = p.keys.Verify(m.wasm, p.Name, m.signatures); err != nil {
		return "", fmt.Errorf("plugin %s: %w", p.Name, err)
	}
	return by, nil
}

// loadVersion returns the module of a deployment with its signatures.
func (s Store) loadVersion(ctx context.Context, name string, e *entry) (signedModule, error) {
	wasm, err := s.loadModule(ctx, name, e.Hash)
	return signedModule{wasm: wasm, signatures: e.Signatures}, err
}

// countRefusal counts an error about a missing or wrong signature.
func (h *Host) countRefusal(name string, err error) {
	if !errors.Is(err, artifact.ErrSignature) {
		return
	}
	h.countsMu.Lock()
	defer h.countsMu.Unlock()
	h.refused[name]++
}

// SignaturesRefused returns how many modules of a plugin were refused for a missing or wrong signature.
func (h *Host) SignaturesRefused(name string) uint64 {
	h.countsMu.Lock()
	defer h.countsMu.Unlock()
	return h.refused[name]
}
