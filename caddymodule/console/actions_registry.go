package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/oci"
	"github.com/edgerelay/edgerelay/relay"
)

// pullTimeout bounds the time for a module from a registry. The page waits for a minute more than
// the module and its compilation may take.
const pullTimeout = time.Minute

// checkRegistries checks the prefixes of references, and removes slashes at their ends.
func checkRegistries(prefixes []string) (list []string, err error) {
	for _, text := range prefixes {
		prefix := strings.TrimSuffix(text, "/")
		if _, err := oci.ParseReference(oci.Scheme + prefix + "/a"); err != nil {
			return nil, fmt.Errorf("edgerelay_console: registries: invalid prefix %q; "+
				"use a registry with the beginning of a repository, such as registry.example.com/plugins", text)
		}
		list = append(list, prefix)
	}
	return list, nil
}

// allowsReference reports whether the repository of a reference is one of the prefixes, or below one.
func (h *Handler) allowsReference(ref oci.Reference) bool {
	name := ref.Registry + "/" + ref.Repository
	for _, prefix := range h.registries {
		if name == prefix || strings.HasPrefix(name, prefix+"/") {
			return true
		}
	}
	return false
}

// deployReference pulls a module from a registry, and deploys it with its signatures, to a share of the groups if
// canary is set. It is `caddy edgerelay plugin deploy oci://…`, from this node.
func (h *Handler) deployReference(w http.ResponseWriter, r *http.Request, id relay.Identity) (o outcome, err error) {
	var body struct {
		Plugin  string `json:"plugin"`
		Ref     string `json:"ref"`
		Message string `json:"message"`
		Canary  string `json:"canary"`
		// Hash is the module that the operator has seen. If another one runs, the action fails.
		Hash string `json:"hash"`
	}
	if err := readBody(w, r, &body); err != nil {
		return o, err
	}
	if body.Plugin == "" {
		return o, badRequest(errNoPlugin)
	}
	o.object = fmt.Sprintf("plugin %s, %.300s", body.Plugin, body.Ref)
	ref, err := oci.ParseReference(body.Ref)
	if err != nil {
		return o, badRequest(err)
	}
	if !h.allowsReference(ref) {
		return o, &refusal{
			http.StatusForbidden, "registry",
			"this repository is not allowed; an administrator can add it to registries",
		}
	}
	upload := &limitsOf(h.node).upload
	if !upload.TryLock() {
		return o, caddy.APIError{
			HTTPStatus: http.StatusConflict, Err: errors.New("another upload is in progress; try again"),
		}
	}
	defer upload.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), pullTimeout)
	defer cancel()
	a, err := new(oci.Registry).Pull(ctx, ref)
	if err != nil {
		return o, caddy.APIError{HTTPStatus: http.StatusBadGateway, Err: err}
	}
	o.object = fmt.Sprintf("plugin %s, %s", body.Plugin, a.Ref)
	q := url.Values{"ref": {a.Ref.String()}}
	if body.Message != "" {
		q.Set("message", body.Message)
	}
	if body.Canary != "" {
		q.Set("canary", body.Canary)
		o.object += ", canary " + body.Canary
	}
	form, kind, err := admin.EncodeDeployment(a.Module, nil, a.Signatures)
	if err != nil {
		return o, badRequest(err)
	}
	forward := adminRequest(r, id, body.Plugin, q)
	expect(forward, body.Hash)
	forward.Header.Set("Content-Type", kind)
	forward.Body, forward.ContentLength = io.NopCloser(bytes.NewReader(form)), int64(len(form))
	o.result = "deployed"
	if a.SignaturesErr != nil {
		o.result += "; not all signatures can be read: " + a.SignaturesErr.Error()
	}
	return o, admin.ServeDeploy(h.node, w, forward)
}
