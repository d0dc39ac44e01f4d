package cli

import (
	"bytes"
	"context"
	"fmt"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

// collectStopped collects what can be had without a running relay: the configuration of a file, the findings of the
// doctor about the hosts in it, and versions.
func (b *bundle) collectStopped(ctx context.Context, file, adapter string) error {
	config, err := loadConfig(file, adapter)
	if err != nil {
		return err
	}
	if err := b.addConfig(config); err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	fmt.Fprintln(b.log, "running the doctor")
	var findings bytes.Buffer
	var result any
	d := admin.Diagnosis{}
	if d.Findings, err = checkConfig(ctx, file, adapter); err != nil {
		// The error may quote the configuration. As a file, it is searched for secrets.
		result = map[string]string{"error": err.Error()}
	} else {
		result = d
	}
	if err := printJSON(&findings, result); err != nil {
		return err
	}
	b.add("doctor.json", "findings of the doctor, as 'doctor --config --json', or the error of the configuration",
		findings.Bytes())
	for _, s := range bundleSources {
		b.leave(s.name, "the relay does not run")
	}
	return b.addSummaries()
}

// findLocally searches in this process. A placeholder whose value this process does not know cannot have left its value
// in a file that this process has made.
func findLocally(_ context.Context, s admin.SecretSearch) (admin.SecretsFound, error) {
	return admin.FindSecrets(s), nil
}
