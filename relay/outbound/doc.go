// Package outbound makes HTTP requests for code that is not trusted with the network, such as plugins. A [Policy]
// grants origins, methods and sizes. [Client.Start] carries out requests within the policy.
//
// The reach of a request is decided twice: the URL's scheme, host and port are compared with the granted origins after
// parsing, and each connection's address is checked when it is dialed, whatever the name server said before. Redirects
// are responses like any other. There are no cookies, no proxies and no decompression.
//
// See docs/decisions/functions.md#why-is-an-address-checked-when-it-is-dialed
package outbound
