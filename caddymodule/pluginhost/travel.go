package pluginhost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// maxSettings bounds the settings that travel with a module, in bytes.
const maxSettings = 256 << 10

// nodeSettings are the settings that belong to a node rather than to a module.
var nodeSettings = []string{"name", "file", "keys", "samples", "shadow", "shadow_of"}

// ErrSettings is wrapped by errors about the settings of a deployment.
var ErrSettings = errors.New("invalid settings")

// parseSettings checks the settings of a deployment, a JSON object with the names of the plugin's settings in JSON. It
// returns nil if there are none.
func parseSettings(settings []byte) (json.RawMessage, error) {
	if len(bytes.TrimSpace(settings)) == 0 {
		return nil, nil
	}
	if len(settings) > maxSettings {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrSettings, len(settings), maxSettings)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(settings, &members); err != nil || members == nil {
		return nil, fmt.Errorf("%w: not a JSON object", ErrSettings)
	}
	if grants, ok := members["grants"]; ok && members["grant"] == nil {
		members["grant"] = grants
		delete(members, "grants")
	}
	for name := range members {
		if slices.Contains(nodeSettings, name) {
			return nil, fmt.Errorf("%w: %q belongs to each node; set it in the plugin's block", ErrSettings, name)
		}
	}
	if len(members) == 0 {
		return nil, nil
	}
	compact, err := json.Marshal(members)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	// Unknown names are found now rather than on each node.
	if err := decodeStrictly(compact, new(Plugin)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	return compact, nil
}

func decodeStrictly(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(to)
}

// with returns a copy of the plugin that settings override, and resolves the placeholders of the configuration again.
func (p *Plugin) with(settings json.RawMessage) (*Plugin, error) {
	own, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	members, overrides := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := json.Unmarshal(own, &members); err != nil {
		return nil, err
	}
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &overrides); err != nil {
			return nil, err
		}
	}
	for name, value := range overrides {
		members[name] = value
	}
	merged, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	copied := &Plugin{}
	if err := decodeStrictly(merged, copied); err != nil {
		return nil, err
	}
	if err := copied.provision(); err != nil {
		return nil, fmt.Errorf("plugin %s: %w", p.Name, err)
	}
	return copied, nil
}

// visibleSettings returns the settings of a deployment without the configuration, which may hold secrets.
func visibleSettings(settings json.RawMessage) (visible map[string]json.RawMessage, hasConfig bool) {
	if len(settings) == 0 || json.Unmarshal(settings, &visible) != nil {
		return nil, false
	}
	_, hasConfig = visible["config"]
	delete(visible, "config")
	return visible, hasConfig
}
