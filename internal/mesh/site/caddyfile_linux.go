package site

import (
	"fmt"
	"strings"
)

// secret is that of the cluster.
const secret = "a-long-secret-of-the-mesh-0123456789"

// caddyfile is the configuration of a node. Its settings are the defaults, so that the figures hold for a usual site;
// the text of resync makes losses visible to clients of AWX's dialect.
func (s *Site) caddyfile(n *Node) string {
	layer := fmt.Sprintf("channel_layer redis {\n\turl %s\n\tcapacity 10000\n\tresync `%s`\n}", n.redisURL(false), resyncFrame)
	more := ""
	if s.options.History {
		more = "history job_events-* {\n\tcount 5000\n\tsize 64MiB\n}\nhistory_key a-secret-of-all-nodes-0123456789"
	}
	backplane := fmt.Sprintf("backplane {\n\tsecret %s\n\tnode_name %s\n\t%s\n%s}", secret, n.Name, s.discovery(), s.tlsLines())
	return fmt.Sprintf(`{
	admin 127.0.0.1:2019
	skip_install_trust
	auto_https disable_redirects
	log {
		output file %s
		level INFO
	}
	edgerelay {
		%s
		auth none
		%s
		%s
	}
}
http:// {
	edgerelay
	respond ok
}
%s`, n.logFile(), indent(layer), indent(more), indent(backplane), s.tlsSite())
}

func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n\t\t") }

// discovery is the line that finds the peers.
func (s *Site) discovery() string {
	scheme := "http"
	if s.options.TLS {
		scheme = "https"
	}
	if s.options.DNS {
		return "dns " + Domain + " {\n\t\tscheme " + scheme + "\n\t\tevery " + dnsInterval + "\n\t}"
	}
	line := "peers"
	for i := range s.options.Nodes {
		line += " " + scheme + "://" + s.host(i)
	}
	if s.python != nil {
		line += " " + s.python.URL()
	}
	return line
}

func (s *Site) tlsLines() string {
	if !s.options.TLS {
		return ""
	}
	return "\ttls_ca " + s.certificates.CA + "\n\ttls_server_name localhost\n"
}

func (s *Site) tlsSite() string {
	if !s.options.TLS {
		return ""
	}
	return fmt.Sprintf("https:// {\n\ttls %s %s\n\tedgerelay\n\trespond ok\n}\n", s.certificates.Cert, s.certificates.Key)
}
