package oci

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// Artifact is a pulled module.
type Artifact struct {
	// Ref is the reference with the digest of the OCI manifest.
	Ref Reference
	// Manifest is the OCI manifest, and Module the WebAssembly module.
	Manifest, Module []byte
	// Signatures are those that the registry has for the manifest. They are not verified.
	Signatures []artifact.Signature
	// SignaturesErr is the reason why signatures could not be read; nil if there are none.
	SignaturesErr error
}

// Pull pulls a module with its signatures. A tag is resolved to a digest once.
func (g *Registry) Pull(ctx context.Context, ref Reference) (*Artifact, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	a, err := g.pull(ctx, ref)
	if err != nil {
		return nil, explain("pull", ref, err)
	}
	return a, nil
}

func (g *Registry) pull(ctx context.Context, ref Reference) (*Artifact, error) {
	repo, err := g.open(ref)
	if err != nil {
		return nil, err
	}
	text, d, err := fetchManifest(ctx, repo, ref.name(), artifact.MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := artifact.ParseManifest(text)
	if err != nil {
		return nil, err
	}
	if m.Config.MediaType == artifact.ConfigType {
		config, err := fetchBlob(ctx, repo, m.Config)
		if err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		if err := m.CheckConfig(config); err != nil {
			return nil, err
		}
	}
	a := &Artifact{Ref: ref, Manifest: text}
	a.Ref.Digest = d
	if a.Module, err = fetchBlob(ctx, repo, m.Module()); err != nil {
		return nil, fmt.Errorf("module: %w", err)
	}
	if err := m.CheckModule(a.Module); err != nil {
		return nil, err
	}
	a.Signatures, a.SignaturesErr = pullSignatures(ctx, repo, text)
	return a, nil
}

// fetchManifest returns a manifest of at most limit bytes, with its digest.
func fetchManifest(
	ctx context.Context, repo *remote.Repository, name string, limit int64,
) (text []byte, digest string, err error) {
	d, err := repo.Resolve(ctx, name)
	if err != nil {
		return nil, "", err
	}
	switch err := artifact.CheckManifestType(d.MediaType); {
	case err != nil:
		return nil, "", err
	case d.Size > limit:
		return nil, "", fmt.Errorf("the OCI manifest has %d bytes, more than %d", d.Size, limit)
	case !artifact.ValidDigest(d.Digest.String()):
		return nil, "", fmt.Errorf("the digest %.80q is not supported; push the module with sha256", d.Digest)
	}
	text, err = content.FetchAll(ctx, repo.Manifests(), d)
	return text, d.Digest.String(), err
}

// fetchBlob returns a blob, whose size the caller has checked.
func fetchBlob(ctx context.Context, repo *remote.Repository, d artifact.Descriptor) ([]byte, error) {
	return content.FetchAll(ctx, repo.Blobs(), ocispec.Descriptor{
		MediaType: d.MediaType, Digest: digest.Digest(d.Digest), Size: d.Size,
	})
}

const (
	// signatureType is the type of the payloads in an artifact of signatures, and signatureAnnotation has the signature.
	signatureType       = "application/vnd.dev.cosign.simplesigning.v1+json"
	signatureAnnotation = "dev.cosignproject.cosign/signature"
	signatureConfigType = "application/vnd.oci.image.config.v1+json"
	maxPayload          = 4 << 10
	maxSignature        = 1 << 10
	// maxSignatures bounds the manifest of the signatures, in which cosign stores certificates, too.
	maxSignatures = 256 << 10
)

// signatureTag returns the tag under which cosign stores the signatures of a manifest.
func signatureTag(manifest []byte) string {
	return "sha256-" + artifact.Digest(manifest)[len("sha256:"):] + ".sig"
}

// pullSignatures returns the last [artifact.MaxSignatures] signatures of a manifest, in cosign's format.
func pullSignatures(ctx context.Context, repo *remote.Repository, manifest []byte) ([]artifact.Signature, error) {
	m, err := fetchSignatures(ctx, repo, manifest)
	if err != nil || m == nil {
		return nil, err
	}
	var list []artifact.Signature
	layers := m.Layers[max(0, len(m.Layers)-artifact.MaxSignatures):]
	for _, layer := range layers {
		if layer.MediaType != signatureType {
			continue
		}
		if layer.Size < 0 || layer.Size > maxPayload || !artifact.ValidDigest(layer.Digest) {
			return list, fmt.Errorf("a payload of %d bytes; %d are accepted", layer.Size, maxPayload)
		}
		s := artifact.Signature{Manifest: manifest}
		text := layer.Annotations[signatureAnnotation]
		if s.Signature, err = base64.StdEncoding.DecodeString(text); err != nil || len(text) > maxSignature {
			return list, errors.New("a signature is not base64, or too long")
		}
		if s.Payload, err = fetchBlob(ctx, repo, layer); err != nil {
			return list, err
		}
		list = append(list, s)
	}
	return list, nil
}

// fetchSignatures returns the manifest with the signatures of another manifest; nil if there is none.
func fetchSignatures(ctx context.Context, repo *remote.Repository, manifest []byte) (*artifact.Manifest, error) {
	text, _, err := fetchManifest(ctx, repo, signatureTag(manifest), maxSignatures)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := &artifact.Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("the manifest of the signatures is not valid: %w", err)
	}
	return m, nil
}

func isNotFound(err error) bool {
	resp := new(errcode.ErrorResponse)
	return errors.Is(err, errdef.ErrNotFound) || errors.As(err, &resp) && resp.StatusCode == http.StatusNotFound
}
