// Package docs holds the documentation that the binary itself serves.
package docs

import _ "embed"

// OpenAPI describes the relay's part of Caddy's admin API, as OpenAPI 3.1.
//
//go:embed openapi.json
var OpenAPI []byte

// PublishOpenAPI describes the endpoint of the directive edgerelay_publish, as OpenAPI 3.1.
//
//go:embed publish.openapi.json
var PublishOpenAPI []byte
