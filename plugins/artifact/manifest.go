package artifact

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/edgerelay/edgerelay/plugins"
)

// Media types of an artifact.
const (
	ManifestType = "application/vnd.oci.image.manifest.v1+json"
	IndexType    = "application/vnd.oci.image.index.v1+json"
	// ConfigType marks an artifact as WebAssembly, for all tools.
	ConfigType = "application/vnd.wasm.config.v0+json"
	// ModuleType is the type of the only layer, the module itself.
	ModuleType = "application/wasm"

	emptyType      = "application/vnd.oci.empty.v1+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// Limits of an artifact, in bytes.
const (
	MaxModule   = 16 << 20
	MaxManifest = 16 << 10
	MaxConfig   = 64 << 10
)

// Names of annotations.
const (
	annotationTitle       = "org.opencontainers.image.title"
	annotationVersion     = "org.opencontainers.image.version"
	annotationDescription = "org.opencontainers.image.description"
	annotationSource      = "org.opencontainers.image.source"
)

// Descriptor names a blob by its content.
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Manifest is the OCI manifest of an artifact.
type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// config is the content of type [ConfigType].
type config struct {
	Created      string   `json:"created"`
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	LayerDigests []string `json:"layerDigests"`
}

// unknownTime is the time of every artifact: equal modules have equal manifests, so that a signature of one holds for
// the other.
const unknownTime = "1970-01-01T00:00:00Z"

// Digest returns the digest of content, as in sha256:0123….
func Digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ValidDigest reports whether a text is a digest as [Digest] returns it.
func ValidDigest(text string) bool {
	hexadecimal, ok := strings.CutPrefix(text, "sha256:")
	return ok && len(hexadecimal) == 2*sha256.Size && strings.Trim(hexadecimal, "0123456789abcdef") == ""
}

// Pack returns the OCI manifest of a module, and the config that the manifest names. The annotations come from the
// module's own manifest. Equal modules have equal results.
func Pack(wasm []byte) (manifest, cfg []byte, err error) {
	if len(wasm) > MaxModule {
		return nil, nil, fmt.Errorf("the module has %d bytes, more than %d", len(wasm), MaxModule)
	}
	about, err := plugins.ReadManifest(wasm)
	if err != nil {
		return nil, nil, err
	}
	if about == nil {
		about = &plugins.Manifest{}
	}
	c := config{Created: unknownTime, Architecture: "wasm", OS: "wasip1", LayerDigests: []string{Digest(wasm)}}
	if cfg, err = json.Marshal(c); err != nil {
		return nil, nil, err
	}
	m := Manifest{
		SchemaVersion: 2, MediaType: ManifestType, ArtifactType: ConfigType,
		Config: Descriptor{MediaType: ConfigType, Digest: Digest(cfg), Size: int64(len(cfg))},
		Layers: []Descriptor{{
			MediaType: ModuleType, Digest: Digest(wasm), Size: int64(len(wasm)),
			// Tools that write layers to files take this name.
			Annotations: map[string]string{annotationTitle: fileName(about.Name)},
		}},
		Annotations: map[string]string{},
	}
	for name, value := range map[string]string{
		annotationTitle: about.Name, annotationVersion: about.Version, annotationDescription: about.Description,
		annotationSource: about.Source,
	} {
		if value != "" {
			m.Annotations[name] = value
		}
	}
	manifest, err = json.Marshal(m)
	return manifest, cfg, err
}

// fileName returns the name of a module's file. It has no characters with a meaning in paths.
func fileName(module string) string {
	name := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, module)
	return cmp.Or(strings.Trim(name, "-"), "plugin") + ".wasm"
}

// ParseManifest reads the OCI manifest of an artifact, and checks that it has one module.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > MaxManifest {
		return nil, fmt.Errorf("the OCI manifest has %d bytes, more than %d", len(b), MaxManifest)
	}
	m := &Manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("the OCI manifest is not valid: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

// Module returns the descriptor of the module.
func (m *Manifest) Module() Descriptor { return m.Layers[0] }

func (m *Manifest) check() error {
	if err := CheckManifestType(cmp.Or(m.MediaType, ManifestType)); err != nil {
		return err
	}
	if m.SchemaVersion != 2 {
		return fmt.Errorf("the OCI manifest has the schema version %d; use 2", m.SchemaVersion)
	}
	if m.Config.MediaType != ConfigType && !(m.Config.MediaType == emptyType && m.ArtifactType == ConfigType) {
		return fmt.Errorf("the artifact is of type %.80q, no WebAssembly module; push the module with "+
			"'caddy edgerelay plugin push', or with the config or artifact type %s",
			cmp.Or(m.ArtifactType, m.Config.MediaType), ConfigType)
	}
	if n := len(m.Layers); n != 1 {
		return fmt.Errorf("the artifact has %d layers; push one module in a single layer of type %s", n, ModuleType)
	}
	layer := m.Layers[0]
	switch {
	case layer.MediaType != ModuleType:
		return fmt.Errorf("the artifact's layer is of type %.80q; push one module in a single layer of type %s",
			layer.MediaType, ModuleType)
	case !ValidDigest(layer.Digest) || !ValidDigest(m.Config.Digest):
		return fmt.Errorf("the digest %.80q is not supported; push the module with sha256", layer.Digest)
	case layer.Size <= 0 || layer.Size > MaxModule:
		return fmt.Errorf("the module has %d bytes; modules of 1 to %d bytes are accepted", layer.Size, MaxModule)
	case m.Config.Size < 0 || m.Config.Size > MaxConfig:
		return fmt.Errorf("the artifact's config has %d bytes, more than %d", m.Config.Size, MaxConfig)
	}
	return nil
}

// CheckManifestType returns an error unless the media type is that of an artifact's manifest.
func CheckManifestType(mediaType string) error {
	switch mediaType {
	case ManifestType:
		return nil
	case IndexType, dockerIndex:
		return errors.New("the reference names an index of several artifacts; name one of them by its digest")
	case dockerManifest:
		return errors.New("the reference names a container image in Docker's format, no WebAssembly module")
	}
	return fmt.Errorf("the reference names %.80q, no WebAssembly module", mediaType)
}

// CheckConfig checks the config of an artifact against its manifest. The config of an artifact that other tools made
// may be empty.
func (m *Manifest) CheckConfig(b []byte) error {
	if m.Config.MediaType != ConfigType {
		return nil
	}
	var c config
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("the artifact's config is not valid: %w", err)
	}
	switch {
	case c.Architecture != "" && c.Architecture != "wasm":
		return fmt.Errorf("the artifact is for the architecture %.40q; plugins need wasm", c.Architecture)
	case c.OS != "" && c.OS != "wasip1":
		return fmt.Errorf("the artifact is for the system %.40q; plugins are modules for wasip1, not components", c.OS)
	case len(c.LayerDigests) > 0 && !slices.Equal(c.LayerDigests, []string{m.Module().Digest}):
		return errors.New("the artifact's config names other layers than its manifest; push the module again")
	}
	return nil
}

// CheckModule checks a module against the manifest.
func (m *Manifest) CheckModule(wasm []byte) error {
	if got := Digest(wasm); got != m.Module().Digest {
		return fmt.Errorf("the module has the digest %s, and the OCI manifest names %s", got, m.Module().Digest)
	}
	if !bytes.HasPrefix(wasm, []byte("\x00asm\x01\x00\x00\x00")) {
		return errors.New("the artifact's layer is no WebAssembly module; components are not supported")
	}
	return nil
}
