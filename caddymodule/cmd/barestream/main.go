// Command barestream is Caddy with edgerelay and with bare_stream, a handler of extended CONNECT that does as little as
// possible. The benchmark's mode h2 compares the two in one binary.
package main

import (
	"encoding/binary"
	"io"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/edgerelay/edgerelay/caddymodule"
)

func init() {
	caddy.RegisterModule(bareStream{})
	httpcaddyfile.RegisterHandlerDirective("bare_stream",
		func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) { return bareStream{}, nil })
	httpcaddyfile.RegisterDirectiveOrder("bare_stream", httpcaddyfile.Before, "respond")
}

func main() { caddycmd.Main() }

// bareStream accepts each extended CONNECT, and ignores the bytes of clients. The body of a POST goes to all clients,
// as one frame of text.
type bareStream struct{}

// CaddyModule implements [caddy.Module].
func (bareStream) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bare_stream", New: func() caddy.Module { return bareStream{} }}
}

// client is an open stream.
type client struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (c *client) write(b []byte) {
	if _, err := c.w.Write(b); err == nil {
		_ = c.control.Flush() // the reader sees the end
	}
}

var (
	mu      sync.Mutex
	clients = map[*client]struct{}{}
)

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (bareStream) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch r.Method {
	case http.MethodPost:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		fanOut(body)
		return nil
	case http.MethodConnect:
		serve(w, r)
		return nil
	}
	return next.ServeHTTP(w, r)
}

func fanOut(text []byte) {
	frame := []byte{0x81, byte(len(text))}
	if len(text) > 125 {
		frame = binary.BigEndian.AppendUint16([]byte{0x81, 126}, uint16(len(text)))
	}
	frame = append(frame, text...)
	mu.Lock()
	defer mu.Unlock()
	for c := range clients {
		c.write(frame)
	}
}

// serve serves a stream past Caddy's wrappers.
func serve(w http.ResponseWriter, r *http.Request) {
	body := r.Body
	if idle, _ := caddyhttp.IdleTimeoutsFromContext(r.Context()); idle != nil {
		body = idle.ReadCloser
	}
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = u.Unwrap()
	}
	c := &client{w, http.NewResponseController(w)}
	w.WriteHeader(http.StatusOK)
	c.write([]byte("\x81\x02{}"))
	mu.Lock()
	clients[c] = struct{}{}
	mu.Unlock()
	b := make([]byte, 64)
	for {
		if _, err := body.Read(b); err != nil {
			break
		}
	}
	mu.Lock()
	delete(clients, c)
	mu.Unlock()
}
