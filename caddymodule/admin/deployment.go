package admin

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins/artifact"
)

const (
	// maxModuleBytes is the longest module that the plugin host accepts.
	maxModuleBytes = 16 << 20
	// maxSettingsBytes bounds the settings beside a module.
	maxSettingsBytes = 256 << 10
	// maxSignatureBytes bounds the signatures beside a module.
	maxSignatureBytes = artifact.MaxSignatureFile
)

// readDeployment reads a module: the whole body, or the part "module" of multipart/form-data. In a form, the parts
// "settings", "signatures", "by", "message" and "ref" go to change.
func readDeployment(w http.ResponseWriter, r *http.Request, change *pluginhost.Change) (wasm []byte, err error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "multipart/form-data" {
		wasm, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxModuleBytes))
		if err != nil {
			return nil, fmt.Errorf("reading the module: %w", err)
		}
		return wasm, nil
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxModuleBytes+maxSettingsBytes+maxSignatureBytes+64<<10)
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, fmt.Errorf("reading the form: %w", err)
	}
	found := map[string]bool{}
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading the form: %w", err)
		}
		name := part.FormName()
		if found[name] {
			return nil, fmt.Errorf("the form has two parts %.40q", name)
		}
		found[name] = true
		if _, operator := r.Context().Value(authorKey{}).(string); operator && (name == "settings" || name == "ref") {
			return nil, fmt.Errorf("the part %s is not accepted here: operators of the console deploy modules, and "+
				"settings such as grants stay; use the admin API", name)
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return nil, fmt.Errorf("reading the part %.40q: %w", name, err)
		}
		switch name {
		case "module":
			wasm = b
		case "settings":
			change.Settings = b
		case "signatures":
			change.Signatures = b
		case "ref":
			change.Ref = string(b)
		case "by":
			if _, authenticated := r.Context().Value(authorKey{}).(string); !authenticated {
				change.By = string(b)
			}
		case "message":
			change.Message = string(b)
		default:
			return nil, fmt.Errorf("unknown part %.40q of the form; use module, settings, signatures, by, message and ref", name)
		}
	}
	if !found["module"] {
		return nil, errors.New("the form has no part module; add the .wasm file")
	}
	return wasm, nil
}
