package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/oci"
	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// manifestSuffix is the suffix of the file with the OCI manifest of a pulled module.
const manifestSuffix = ".json"

// resolveFile returns the file of a plugin's module. A reference to a registry must have a digest; its file is in
// Caddy's data directory, and [Plugin.pull] writes it.
func resolveFile(text string) (file string, ref *oci.Reference, err error) {
	if !oci.IsReference(text) {
		file, err = filepath.Abs(text)
		return file, nil, err
	}
	parsed, err := oci.ParseReference(text)
	if err != nil {
		return "", nil, err
	}
	if parsed.Digest == "" {
		return "", nil, fmt.Errorf("%s has no digest, so that its module could change; "+
			"name the digest, as 'caddy edgerelay plugin inspect %s' shows it", parsed, parsed)
	}
	name := strings.TrimPrefix(parsed.Digest, "sha256:") + ".wasm"
	return filepath.Join(caddy.AppDataDir(), "edgerelay", "plugins-oci", name), &parsed, nil
}

// readFile reads the plugin's file. A pulled module must be the one that the digest names.
func (p *Plugin) readFile() fileContent {
	c := readFile(p.path)
	if p.ref == nil || c.err != nil {
		return c
	}
	if err := p.checkPulled(c.wasm); err != nil {
		return fileContent{state: c.state, err: fmt.Errorf("%s: %w; delete the file, and start or reload the relay", p.path, err)}
	}
	return c
}

// checkPulled checks a module against the digest in the configuration.
func (p *Plugin) checkPulled(wasm []byte) error {
	text, err := readRegular(p.path+manifestSuffix, artifact.MaxManifest)
	if err != nil {
		return err
	}
	if got := artifact.Digest(text); got != p.ref.Digest {
		return fmt.Errorf("the OCI manifest beside it has the digest %s, not %s", got, p.ref.Digest)
	}
	m, err := artifact.ParseManifest(text)
	if err != nil {
		return err
	}
	return m.CheckModule(wasm)
}

// pull reads the plugin's file, and first pulls the module if the file is missing or damaged. It also asks the registry
// if the signature that the plugin needs is missing.
func (p *Plugin) pull(ctx context.Context) fileContent {
	c := p.readFile()
	if p.ref == nil {
		return c
	}
	if c.err == nil {
		if _, err := p.verify(c.signedModule); err == nil {
			return c
		}
	}
	a, err := new(oci.Registry).Pull(ctx, *p.ref)
	if err == nil {
		err = p.keepPulled(a)
	}
	switch {
	case err == nil:
		return p.readFile()
	case c.err == nil: // the module is there, and a signature is missing
		c.signaturesErr = errors.Join(c.signaturesErr, err)
	default:
		c.err = err
	}
	return c
}

// keepPulled writes the files of a pulled module. The module comes last, since the other files describe it.
func (p *Plugin) keepPulled(a *oci.Artifact) error {
	if err := os.MkdirAll(filepath.Dir(p.path), 0o700); err != nil {
		return fmt.Errorf("keeping the pulled module: %w; make Caddy's data directory writable", err)
	}
	files := map[string][]byte{p.path + manifestSuffix: a.Manifest}
	if len(a.Signatures) > 0 {
		text, err := artifact.FormatSignatures(a.Signatures)
		if err != nil {
			return err
		}
		files[p.path+SignatureSuffix] = text
	}
	for name, content := range files {
		if err := replaceFile(name, content); err != nil {
			return err
		}
	}
	return replaceFile(p.path, a.Module)
}

// replaceFile replaces a file by a rename, so that a reader gets all of it.
func replaceFile(name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".pulled-*")
	if err != nil {
		return fmt.Errorf("keeping the pulled module: %w; make Caddy's data directory writable", err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("keeping the pulled module: %w", err)
	}
	return nil
}
