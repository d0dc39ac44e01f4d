//go:build linux

package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// frontClients is the number of clients in the bursts and paces of fronts.
const frontClients = 1000

// frontCase is something that stands between the clients and the site.
type frontCase struct {
	name, title string
	tls         bool
	unix        bool
	options     string // of Caddy's option servers
	before      string // a header before the first byte of a client
}

// proxyHeader is the header of the PROXY protocol, version 2, for a client at 192.0.2.7.
const proxyHeader = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\x00\x00\x01\xc3\x50\x01\xbb"

// frontCases are the cases in turn; the first is the one to compare with.
var frontCases = []frontCase{
	{name: "tcp", title: "TCP"},
	{
		name: "proxy", title: "PROXY protocol", options: "listener_wrappers {\n\t\t\tproxy_protocol {\n\t\t\t\t" +
			"allow 127.0.0.0/8\n\t\t\t}\n\t\t}", before: proxyHeader,
	},
	{name: "h1", title: "`protocols h1`", options: "protocols h1"},
	{name: "unix", title: "Unix socket", unix: true, options: "trusted_proxies_unix"},
	{name: "tls", title: "TLS", tls: true},
	{
		name: "proxytls", title: "PROXY protocol, then TLS", tls: true, options: "listener_wrappers {\n\t\t\t" +
			"proxy_protocol {\n\t\t\t\tallow 127.0.0.0/8\n\t\t\t}\n\t\t\ttls\n\t\t}", before: proxyHeader,
	},
}

func findFront(name string) *frontCase {
	for i := range frontCases {
		if frontCases[i].name == name {
			return &frontCases[i]
		}
	}
	return nil
}

// socket is the path of the site's Unix socket, "" without one.
func (c *frontCase) socket(dir string) string {
	if c == nil || !c.unix {
		return ""
	}
	return filepath.Join(dir, "site.sock")
}

// servers is the option of the Caddyfile.
func (c *frontCase) servers(socket string) string {
	switch {
	case c == nil || c.options == "":
		return ""
	case socket != "":
		return "servers unix/" + socket + " {\n\t\t" + c.options + "\n\t}"
	}
	return "servers {\n\t\t" + c.options + "\n\t}"
}

// bindLine is the line of the site that binds it to a Unix socket.
func bindLine(socket string) string {
	if socket == "" {
		return ""
	}
	return "bind unix/" + socket
}

// frontRows measures bursts and paces of a session.
func (p *plan) frontRows(s *session) []measurement {
	return []measurement{{p.burstRow(s, 300), (*session).burst}, {p.pacedRow(s, 300), (*session).pacedIfAble}}
}

// fronts is the report's part about fronts.
func (res *results) fronts(b *strings.Builder) {
	type cells struct{ burst, paced, p99, connect, idle string }
	table := map[string]*cells{}
	for _, m := range res.Medians {
		if m.Front == "" {
			continue
		}
		c := table[m.Front]
		if c == nil {
			c = &cells{}
			table[m.Front] = c
		}
		switch {
		case m.why() != "":
			c.burst = m.why()
		case m.Kind == kindBurst:
			c.burst = fmt.Sprintf("%.3f", m.CPUPerM)
		case m.Kind == kindPaced:
			c.paced, c.p99 = fmt.Sprintf("%.2f", m.CPUPerM), fmt.Sprintf("%.1f", m.P99)
		case m.IdleAfterGC > 0:
			c.connect, c.idle = fmt.Sprintf("%.2f", m.ConnectCPU), fmt.Sprintf("%.1f / %.1f", m.IdleKiB, m.IdleAfterGC)
		}
	}
	if len(table) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## In front of the site\n\n| front | burst, CPU-s/M | paced, CPU-s/M | paced, p99 ms | CPU ms to connect "+
		"| KiB a connection, after the ramp / a collection |\n|---|--:|--:|--:|--:|--:|\n")
	for _, f := range frontCases {
		if c := table[f.name]; c != nil {
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", f.title, c.burst, c.paced, c.p99, c.connect, c.idle)
		}
	}
}
