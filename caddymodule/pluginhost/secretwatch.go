package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// seenSecrets are the states of the files of a plugin's secrets, as text, at the last check.
type seenSecrets struct {
	files string
	// applied are the files whose content the version of has, or that it was refused with.
	applied string
	of      *version
}

// secretFiles returns the states of the files that a configuration's placeholders name, as text; empty if there are
// none.
func secretFiles(config json.RawMessage) string {
	if !bytes.Contains(config, []byte(filePrefix)) {
		return ""
	}
	var states strings.Builder
	r := secretResolver{read: func(placeholder string) (string, error) {
		if name, ok := strings.CutPrefix(placeholder, filePrefix); ok {
			state, err := stateOf(strings.TrimSuffix(name, "}"))
			fmt.Fprintln(&states, placeholder, state, err)
		}
		return "", nil
	}}
	var value any
	if json.Unmarshal(config, &value) != nil {
		return ""
	}
	if _, err := r.value(value, ""); err != nil {
		return ""
	}
	return states.String()
}

// reloadSecrets starts the running version again if the content of its secrets' files has changed and is stable. A
// module that fails with the new secrets is reported, and goes on with the old ones.
func (h *Host) reloadSecrets(ctx context.Context, name string, seen *seenSecrets) {
	p, _, ok := h.lookUp(name)
	if !ok {
		return
	}
	running := p.module
	files := secretFiles(running.plugin.Config)
	if files == "" || files == seen.applied && running == seen.of {
		return
	}
	if files != seen.files {
		seen.files = files
		return
	}
	var settings json.RawMessage
	if running.entry != nil {
		settings = running.entry.Settings
	}
	own, err := p.with(settings)
	if err != nil { // a file is about to be replaced
		return
	}
	seen.applied, seen.of = files, running
	if bytes.Equal(own.spec.Config, running.plugin.spec.Config) {
		return
	}
	v := *running
	v.plugin = own
	err = h.restart(ctx, &v)
	switch {
	case err == nil:
		seen.of = &v
		h.restartCanary(name)
		h.log.Info("plugin secrets reloaded", "plugin", name)
	case ctx.Err() != nil, errors.Is(err, errStale):
		seen.of = nil // the next check tries again
	default:
		h.reject(&p, rejection{"secrets", files, err}, "changed plugin secrets rejected")
	}
}

// restart prepares and installs the running version with other secrets.
func (h *Host) restart(ctx context.Context, v *version) error {
	p, _, ok := h.lookUp(v.configured.Name)
	if !ok {
		return errStale
	}
	prepared, err := h.Pipeline.Prepare(ctx, v.spec(p.samples))
	if err != nil {
		return err
	}
	defer prepared.Close()
	return h.install(ctx, v, prepared, func(p *runningPlugin) {
		if p.rejected.from == "secrets" {
			p.rejected = rejection{}
		}
	})
}
