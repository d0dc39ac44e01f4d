// Package sdk holds the files of new plugin projects: the templates, and the SDKs of the four languages. Package
// scaffold writes the projects. Each SDK has a README.
package sdk

import "embed"

// Files are the templates and the SDK files for new projects. The Go SDK is a module of its own and cannot be embedded:
// templates/go has a copy, which scripts/copy-go-sdk.sh renews.
//
//go:embed templates rust/Cargo.toml rust/README.md rust/src
//go:embed assemblyscript/README.md assemblyscript/package.json assemblyscript/index.ts assemblyscript/function.ts
//go:embed assemblyscript/assembly
//go:embed assemblyscript/testing assemblyscript/bin c/edgerelay.h c/edgerelay_test.h
var Files embed.FS
