// Package client contains the built browser client, for pages that a binary serves.
package client

import "embed"

// Dist is the folder dist: ES modules, of which index.js is the one to import.
//
//go:embed dist/*.js
var Dist embed.FS
