// Package publish is the HTTP endpoint by which programs publish messages to groups: keys, the JSON of requests and
// responses, idempotency, rates. An [Endpoint] is an [net/http.Handler]; it publishes through a [Publisher], the hub.
//
// A request passes these stages, each in a file of its own:
//
//  1. Authentication (keys.go): the request's credentials select a [Key], or the answer is 401.
//  2. Reading (body.go): one bounded body of JSON, within a time.
//  3. Parsing (scan.go, parse.go): one message, a batch, or a GRIP publication. An error names the member.
//  4. Checks (check.go): the key's groups, types and rate. A request with a forbidden message publishes nothing.
//  5. Claims (claim.go): of requests with the same idempotency key, one publishes, on all nodes of a channel layer.
//  6. Publishing (send.go): in order within each group, groups beside one another, with a result for each.
//
// docs/publish.openapi.json describes requests and responses.
package publish
