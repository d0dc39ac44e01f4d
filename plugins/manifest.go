package plugins

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/plugins/internal/configschema"
	"github.com/edgerelay/edgerelay/plugins/internal/wasmfile"
)

// ManifestSection is the name of the custom section with a module's manifest.
const ManifestSection = "edgerelay.manifest"

// Limits of a manifest.
const (
	maxManifest         = 64 << 10 // bytes of JSON
	maxManifestText     = 64       // bytes of name, version and abi
	maxManifestDescribe = 1024     // bytes of the description
)

// Manifest is what a module says about itself, in the custom section "edgerelay.manifest". All members are optional.
type Manifest struct {
	// Name and Version identify the module for people. They have no effect.
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
	// ABI is the version of the plugin ABI that the module needs, such as "1.1".
	ABI         string `json:"abi,omitempty"`
	Description string `json:"description,omitempty"`
	// Source is the address of the module's source code, for people.
	Source string `json:"source,omitempty"`
	// Grants are the capabilities that the module needs. A plugin whose settings lack one is rejected.
	Grants []Grant `json:"grants,omitempty"`
	// Tick is the interval that the module suggests for the grant tick.
	Tick string `json:"tick,omitempty"`
	// ConfigSchema describes the plugin's configuration in a subset of JSON Schema. A configuration that does not
	// conform is rejected.
	ConfigSchema json.RawMessage `json:"config_schema,omitempty"`

	schema *configschema.Schema
}

// ReadManifest returns the manifest of a module, nil if it has none. It does not run or compile the module.
func ReadManifest(wasm []byte) (*Manifest, error) {
	m, err := wasmfile.Read(wasm)
	if err != nil {
		return nil, err
	}
	return manifestOf(m)
}

func manifestOf(m *wasmfile.Module) (found *Manifest, err error) {
	for _, s := range m.Custom {
		if s.Name != ManifestSection {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("the module has two manifests (custom sections %s); keep one", ManifestSection)
		}
		if found, err = ParseManifest(s.Data); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// ParseManifest checks and returns a manifest, which is JSON of at most 64 KiB. Unknown members are ignored, so that a
// module may carry more.
func ParseManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	if len(text) > maxManifest {
		return nil, fmt.Errorf("the manifest has %d bytes, more than %d", len(text), maxManifest)
	}
	if !utf8.Valid(text) {
		return nil, errors.New("the manifest is not UTF-8")
	}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("the manifest is not valid: %w", err)
	}
	faults := m.checkTexts()
	for _, g := range m.Grants {
		if !slices.Contains(Grants, g) {
			faults = append(faults, fmt.Errorf("the manifest asks for the unknown grant %.64q; this host has %v", g, Grants))
		}
	}
	if m.Tick != "" {
		if d, err := time.ParseDuration(m.Tick); err != nil || d <= 0 {
			faults = append(faults, fmt.Errorf("the manifest's tick %.64q is not a duration such as 1s", m.Tick))
		}
	}
	if m.ConfigSchema != nil {
		var err error
		if m.schema, err = configschema.Parse(m.ConfigSchema); err != nil {
			faults = append(faults, fmt.Errorf("the manifest's config_schema is not valid: %w", err))
		}
	}
	return m, errors.Join(faults...)
}

// checkTexts checks the texts that lists, logs and terminals show.
func (m *Manifest) checkTexts() (faults []error) {
	for _, t := range []struct {
		member, text string
		limit        int
	}{
		{"name", m.Name, maxManifestText},
		{"version", m.Version, maxManifestText},
		{"abi", m.ABI, maxManifestText},
		{"description", m.Description, maxManifestDescribe},
		{"source", m.Source, maxManifestDescribe},
	} {
		if len(t.text) > t.limit || strings.ContainsFunc(t.text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			faults = append(faults, fmt.Errorf("the manifest's %s is not a line of at most %d printable bytes",
				t.member, t.limit))
		}
	}
	return faults
}

// MissingGrants returns the grants that the manifest asks for and that are not in granted.
func (m *Manifest) MissingGrants(granted []Grant) (missing []Grant) {
	for _, g := range m.Grants {
		if !slices.Contains(granted, g) && !slices.Contains(missing, g) {
			missing = append(missing, g)
		}
	}
	return missing
}

// GrantLines returns the lines of a plugin's block that give the grants, for an error message.
func (m *Manifest) GrantLines(grants []Grant) string {
	var words, lines []string
	for _, g := range grants {
		switch g {
		case GrantFetch: // names what it grants
			lines = append(lines, "'fetch https://<host>'")
			continue
		case GrantTick:
		default:
			words = append(words, string(g))
			continue
		}
		tick := m.Tick
		if tick == "" {
			tick = "1s"
		}
		lines = append(lines, "'grant tick "+tick+"'")
	}
	if words != nil {
		lines = append(lines, "'grant "+strings.Join(words, " ")+"'")
	}
	slices.Sort(lines)
	return strings.Join(lines, " and ")
}

// EmbedManifest returns the module with a manifest, which replaces an earlier one.
func EmbedManifest(wasm, manifest []byte) ([]byte, error) {
	if _, err := ParseManifest(manifest); err != nil {
		return nil, err
	}
	return wasmfile.SetCustom(wasm, ManifestSection, manifest)
}

// checkManifest checks the grants and the configuration of a plugin against the manifest of its module. The metering
// rewriter drops custom sections, so the manifest is read before.
func (s *Spec) checkManifest() error {
	m, err := ReadManifest(s.Wasm)
	if err != nil || m == nil {
		return err
	}
	var faults []error
	if missing := m.MissingGrants(s.Grants); len(missing) > 0 {
		faults = append(faults, fmt.Errorf("the module's manifest asks for %v; add %s to the plugin's block",
			missing, m.GrantLines(missing)))
	}
	faults = append(faults, checkABI(m.ABI, s.Wasm)...)
	if m.schema != nil {
		if err := m.schema.Check("config", s.Config); err != nil {
			faults = append(faults, fmt.Errorf("the config does not conform to the module's config_schema: %w", err))
		}
	}
	return errors.Join(faults...)
}

// checkABI checks the ABI version of a manifest. A newer minor version is an error even if all imports are known,
// because the host would never call a newer hook.
func checkABI(version string, wasm []byte) []error {
	if version == "" {
		return nil
	}
	major, minor, _ := strings.Cut(version, ".")
	n, err := strconv.ParseUint(cmp.Or(minor, "0"), 10, 31)
	if major != strconv.Itoa(ABIVersion) || err != nil {
		return []error{fmt.Errorf(
			"the module's manifest asks for plugin ABI %s, this relay has %s; build with a matching SDK",
			version, abiText(ABIMinor))}
	}
	if n <= ABIMinor {
		return nil
	}
	var faults importFaults
	if in, err := Inspect(wasm); err == nil {
		for _, name := range in.Unknown {
			faults.addUnknown(name, version)
		}
	}
	if len(faults.list) == 0 {
		faults.add("the module's manifest asks for plugin ABI %s, this relay has %s; "+
			"upgrade the relay, or build with an older SDK", version, abiText(ABIMinor))
	}
	return faults.faults()
}
