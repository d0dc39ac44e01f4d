package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

// finder searches texts for secrets.
type finder func(context.Context, admin.SecretSearch) (admin.SecretsFound, error)

// findRemotely lets the running relay search, since only its process knows the values of placeholders.
func (b *bundle) findRemotely(ctx context.Context, s admin.SecretSearch) (found admin.SecretsFound, err error) {
	return found, callJSON(ctx, b.address, "/edgerelay/secrets/find", s, &found)
}

// search leaves out every file that contains a secret. Without a result, there is no bundle.
func (b *bundle) search(ctx context.Context, find finder) error {
	var lines [][]byte
	request := admin.SecretSearch{Secrets: b.redacted.secrets}
	for _, f := range b.files {
		request.Texts = append(request.Texts, string(f.content))
		if f.name == "logs.ndjson" {
			lines = bytes.SplitAfter(f.content, []byte("\n"))
		}
	}
	files := len(request.Texts)
	for _, line := range lines {
		request.Texts = append(request.Texts, string(line))
	}
	found, err := find(ctx, request)
	if err != nil {
		return fmt.Errorf("searching the files for secrets: %w", err)
	}
	switch {
	case len(found.Found) != len(request.Texts):
		return errors.New("searching the files for secrets: the response does not fit; " +
			"use the command of the relay's own binary")
	case found.Unresolved > 0:
		return fmt.Errorf("searching the files for secrets: %d files of placeholders cannot be read, so that "+
			"nothing can be shown to be free of their secrets; restore the files, or remove the settings",
			found.Unresolved)
	}
	kept := b.files[:0]
	for i, f := range b.files {
		switch {
		case !found.Found[i]:
			kept = append(kept, f)
		case f.name == "logs.ndjson":
			f.content = b.withoutFound(lines, found.Found[files:])
			kept = append(kept, f)
		default:
			b.leave(f.name, "contains the value of a secret setting")
		}
	}
	b.files = kept
	return nil
}

// withoutFound returns the lines of the log that contain no secret.
func (b *bundle) withoutFound(lines [][]byte, found []bool) []byte {
	var text []byte
	for i, line := range lines {
		if found[i] {
			b.droppedLines++
			continue
		}
		text = append(text, line...)
	}
	b.leave(count(b.droppedLines, "line")+" of logs.ndjson", "contains the value of a secret setting")
	return text
}
