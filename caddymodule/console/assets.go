package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/edgerelay/edgerelay/relay"
)

// files are the parts of the page. They become a single response: the policy can then allow one script and one style by
// their hashes, and nothing else of the site.
//
//go:embed page
var files embed.FS

// scripts are the page's scripts, in the order of their declarations.
var scripts = []string{"base.js", "dialog.js", "overview.js", "plugins.js", "lists.js", "group.js", "main.js"}

var page = assemble()

// assemble returns the page with its style and its scripts.
func assemble() []byte {
	html := mustRead("page.html")
	html = bytes.Replace(html, []byte("<style></style>"), element("style", mustRead("style.css")), 1)
	script := []byte("\n\"use strict\";\n")
	for _, name := range scripts {
		script = append(script, mustRead(name)...)
	}
	return bytes.Replace(html, []byte("<script></script>"), element("script", script), 1)
}

func element(tag string, text []byte) []byte {
	return fmt.Appendf(nil, "<%s>%s</%s>", tag, text, tag)
}

func mustRead(name string) []byte {
	b, err := files.ReadFile("page/" + name)
	if err != nil {
		panic(err) // the list names a file that is not embedded
	}
	return b
}

// contentPolicy restricts the page to its own script, its own style and its own server.
var contentPolicy = fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; "+
	"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	inlineHash("script"), inlineHash("style"))

// inlineHash returns the hash of the page's only element of a kind, in the syntax of a policy.
func inlineHash(tag string) string {
	_, rest, _ := bytes.Cut(page, []byte("<"+tag+">"))
	text, _, _ := bytes.Cut(rest, []byte("</"+tag+">"))
	sum := sha256.Sum256(text)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// setHeaders sets the headers of all responses of the console.
func setHeaders(header http.Header) {
	header.Set("Content-Security-Policy", contentPolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
}

// servePage writes the page.
func (h *Handler) servePage(w http.ResponseWriter, _ *http.Request, _ relay.Identity) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err := w.Write(page)
	return err
}
