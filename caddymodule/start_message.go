package caddymodule

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/caddymodule/console"
	"github.com/edgerelay/edgerelay/caddymodule/node"
)

// startMessage prints the texts of an app when its configuration serves, once per process.
type startMessage struct {
	app *App
	to  io.Writer
}

// Handle implements caddyevents.Handler. Caddy emits "started" after all listeners are open.
func (s startMessage) Handle(context.Context, caddy.Event) error {
	type key struct{}
	once := s.app.node.Extension(key{}, func() any { return new(sync.Once) }).(*sync.Once)
	once.Do(func() {
		if text := s.app.StartMessage; text != "" {
			fmt.Fprintln(s.to, strings.TrimRight(caddy.NewReplacer().ReplaceKnown(text, ""), "\n")+"\n")
		}
		for _, h := range s.app.demos {
			fmt.Fprint(s.to, h.startMessage())
		}
	})
	return nil
}

// startMessage returns the address of the demo, and next steps.
func (h *DemoHandler) startMessage() string {
	url := siteURL(h.server)
	var b strings.Builder
	b.WriteString("\nedgerelay ")
	if version := node.Version().Relay; strings.HasPrefix(version, "v") { // not of a build from a checkout
		b.WriteString(version + " ")
	}
	b.WriteString("is ready. Next steps:\n\n")
	line := func(name, text string) { fmt.Fprintf(&b, "  %-15s %s\n", name, text) }
	line("Open the demo", url)
	line("Publish", h.publishCommand())
	if path := consolePath(h.server); path != "" {
		line("Console", strings.TrimSuffix(url, "/")+path)
	}
	line("Documentation", documentation())
	b.WriteString("\nEvery client may publish here: for development only. Ctrl-C stops it.\n\n")
	return b.String()
}

// documentation tells where to read on: the pages of the checkout in the working directory, or of the repository.
func documentation() string {
	if _, err := os.Stat("docs/Caddyfile"); err == nil {
		return "make docs-serve, then http://localhost:8014/"
	}
	return "https://github.com/edgerelay/edgerelay/tree/main/docs"
}

// siteURL returns the address of a server for a browser on this machine. Without a TCP port it is empty.
func siteURL(s *caddyhttp.Server) string {
	if s == nil {
		return ""
	}
	for _, listen := range s.Listen {
		a, err := caddy.ParseNetworkAddress(listen)
		if err != nil || a.StartPort == 0 {
			continue
		}
		host, scheme, usual := a.Host, "http", uint(80)
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "localhost"
		}
		if len(s.TLSConnPolicies) > 0 {
			scheme, usual = "https", 443
		}
		if a.StartPort != usual {
			host = net.JoinHostPort(host, strconv.FormatUint(uint64(a.StartPort), 10))
		}
		return scheme + "://" + host + "/"
	}
	return ""
}

// consolePath returns the path of the console among a server's routes, empty if there is none.
func consolePath(s *caddyhttp.Server) string {
	if s == nil {
		return ""
	}
	return consoleOf(s.Routes)
}

func consoleOf(routes caddyhttp.RouteList) string {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch h := handler.(type) {
			case *console.Handler:
				return h.Location()
			case *caddyhttp.Subroute:
				if path := consoleOf(h.Routes); path != "" {
					return path
				}
			}
		}
	}
	return ""
}

// Parts of the command that publishes an event. The payload has a secret, for plugins such as redact.
const (
	demoGroup = "jobs-status_changed"
	demoEvent = `{"unified_job_id": 42, "status": "successful", "password": "hunter2"}`
)

// publishCommand returns a shell command that publishes an event, for a terminal on the host.
func (h *DemoHandler) publishCommand() string {
	if h.Admin == "off" {
		return fmt.Sprintf(`curl -d '{"group": "%s", "data": %s}' %spublish`, demoGroup, demoEvent, siteURL(h.server))
	}
	command := []string{quote(os.Args[0]), "edgerelay", "publish"}
	if filepath.Base(os.Args[0]) == "edgerelay" { // a binary of this name has the relay's commands as its own
		command = slices.Delete(command, 1, 2)
	}
	if engine := containerEngine(); engine != "" {
		name, _ := os.Hostname()
		command = append([]string{engine, "exec", quote(name)}, command...)
	}
	if h.Admin != "" && h.Admin != "localhost:2019" {
		command = append(command, "--address", quote(h.Admin))
	}
	return strings.Join(append(command, "--group", demoGroup, "--data", quote(demoEvent)), " ")
}

// containerEngine returns the command of the engine in whose container this process is the first, empty outside.
func containerEngine() string {
	if os.Getpid() != 1 {
		return ""
	}
	for file, engine := range map[string]string{"/.dockerenv": "docker", "/run/.containerenv": "podman"} {
		if _, err := os.Stat(file); err == nil {
			return engine
		}
	}
	return ""
}

// quote quotes a word for a shell if the word needs quotes.
func quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@%+=,", r)
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
