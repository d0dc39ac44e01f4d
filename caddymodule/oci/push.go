package oci

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/edgerelay/edgerelay/plugins/artifact"
)

// Push pushes a module with its signatures, and returns the reference with the digest of the OCI manifest. Blobs that
// the registry has already are not sent.
func (g *Registry) Push(
	ctx context.Context, ref Reference, wasm []byte, signatures []artifact.Signature,
) (Reference, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	digest, err := g.push(ctx, ref, wasm, signatures)
	if err != nil {
		return ref, explain("push", ref, err)
	}
	ref.Digest = digest
	return ref, nil
}

func (g *Registry) push(
	ctx context.Context, ref Reference, wasm []byte, signatures []artifact.Signature,
) (string, error) {
	manifest, config, err := artifact.Pack(wasm)
	if err != nil {
		return "", err
	}
	if pushed := artifact.Digest(manifest); ref.Digest != "" && ref.Digest != pushed {
		return "", fmt.Errorf("the module makes the digest %s; push it to a tag", pushed)
	}
	for _, s := range signatures {
		if !bytes.Equal(s.Manifest, manifest) {
			return "", errors.New("a signature beside the module is for another module; sign the module again")
		}
	}
	repo, err := g.open(ref)
	if err != nil {
		return "", err
	}
	for _, blob := range []struct {
		mediaType string
		content   []byte
	}{{artifact.ConfigType, config}, {artifact.ModuleType, wasm}} {
		if err := pushBlob(ctx, repo, blob.mediaType, blob.content); err != nil {
			return "", err
		}
	}
	// Before the tag names the module, so that no one pulls the module without its signatures.
	if len(signatures) > 0 {
		if err := pushSignatures(ctx, repo, manifest, signatures); err != nil {
			return "", fmt.Errorf("signatures: %w", err)
		}
	}
	name := ref.Tag
	if name == "" {
		name = artifact.Digest(manifest)
	}
	d := describe(artifact.ManifestType, manifest)
	d.ArtifactType = artifact.ConfigType
	return d.Digest.String(), repo.PushReference(ctx, d, bytes.NewReader(manifest), name)
}

func describe(mediaType string, content []byte) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: mediaType, Digest: digest.Digest(artifact.Digest(content)), Size: int64(len(content)),
	}
}

func pushBlob(ctx context.Context, repo *remote.Repository, mediaType string, content []byte) error {
	d := describe(mediaType, content)
	exists, err := repo.Blobs().Exists(ctx, d)
	if err != nil || exists {
		return err
	}
	if err = repo.Blobs().Push(ctx, d, bytes.NewReader(content)); errors.Is(err, errdef.ErrAlreadyExists) {
		return nil
	}
	return err
}

// imageConfig is the config of an artifact of signatures. Cosign reads it like that of an image.
type imageConfig struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	Config       struct{} `json:"config"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// pushSignatures adds signatures of a manifest to those that the registry has.
func pushSignatures(
	ctx context.Context, repo *remote.Repository, manifest []byte, signatures []artifact.Signature,
) error {
	m, err := fetchSignatures(ctx, repo, manifest)
	if err != nil {
		return err
	}
	var layers []artifact.Descriptor
	if m != nil {
		layers = m.Layers
	}
	for _, s := range signatures {
		if err := pushBlob(ctx, repo, signatureType, s.Payload); err != nil {
			return err
		}
		text := base64.StdEncoding.EncodeToString(s.Signature)
		layer := artifact.Descriptor{
			MediaType: signatureType, Digest: artifact.Digest(s.Payload), Size: int64(len(s.Payload)),
			Annotations: map[string]string{signatureAnnotation: text},
		}
		if !contains(layers, layer) {
			layers = append(layers, layer)
		}
	}
	if m != nil && len(layers) == len(m.Layers) {
		return nil
	}
	var c imageConfig
	c.RootFS.Type = "layers"
	for _, layer := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, layer.Digest)
	}
	config, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := pushBlob(ctx, repo, signatureConfigType, config); err != nil {
		return err
	}
	text, err := json.Marshal(artifact.Manifest{
		SchemaVersion: 2, MediaType: artifact.ManifestType, Layers: layers,
		Config: artifact.Descriptor{
			MediaType: signatureConfigType, Digest: artifact.Digest(config), Size: int64(len(config)),
		},
	})
	if err != nil {
		return err
	}
	return repo.PushReference(ctx, describe(artifact.ManifestType, text), bytes.NewReader(text), signatureTag(manifest))
}

// contains reports whether a signature is among the layers.
func contains(layers []artifact.Descriptor, layer artifact.Descriptor) bool {
	for _, l := range layers {
		if l.Digest == layer.Digest && l.Annotations[signatureAnnotation] == layer.Annotations[signatureAnnotation] {
			return true
		}
	}
	return false
}
