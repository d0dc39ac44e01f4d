package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strings"
)

// referenceFile is what `make reference` writes.
const referenceFile = "docs/configuration.md"

// chapters are the modules of the reference, by the namespace they are in.
var chapters = []struct {
	title, intro string
	prefix       string
	// caddyfile is what stands before the module's name in a Caddyfile.
	caddyfile string
}{
	{"Global option", "There is one `edgerelay` for all sites. In JSON it is `apps.edgerelay`.", "edgerelay", ""},
	{"Channel layers", "Where events come from: what stands after `channel_layer`. In JSON, `kind` names the layer.", "edgerelay.channel_layers.", "channel_layer "},
	{"Authenticators", "Who may connect, and see what: what stands after `auth`. In JSON, `kind` names the authenticator.", "edgerelay.auth.", "auth "},
	{"Discoveries", "How the backplane finds its peers: directives of `backplane`. In JSON, `kind` names the discovery.", "edgerelay.discovery.", ""},
	{"Transports", "How `reverse_proxy` reaches its upstream: a directive of its block. In JSON, `protocol` names the transport.", "http.reverse_proxy.transport.", "transport "},
	{"Directives of a site", "They may stand in every site, in any order. In JSON they are HTTP handlers, named by `handler`.", "http.handlers.", ""},
}

// reference writes the Markdown page of all settings.
func reference(dirs ...string) ([]byte, error) {
	c, err := readConfig(dirs...)
	if err != nil {
		return nil, err
	}
	w := &writer{placed: map[*structType]string{}}
	w.line("# Configuration reference")
	w.line("")
	w.line("<!-- Made from the comments in caddymodule/ by `make reference`: change those. -->")
	w.line("")
	w.line("Every setting has the same name in a Caddyfile and in JSON, Caddy's own configuration; `caddy adapt` shows one as the other.")
	w.line("In the Caddyfile blocks, `<…>` is a value, `[…]` may be left out, `…|…` is a choice, and `...` means one or more.")
	w.line("A duration is a value such as `30s`, `5m` or `1d`; a bare number is seconds in a Caddyfile. A size is a value such as `64KiB` or `1MiB`; in JSON it is a number of bytes.")
	for _, ch := range chapters {
		w.line("")
		w.line("## " + ch.title)
		w.line("")
		w.line(ch.intro)
		modules := slices.Clone(c.modules)
		slices.SortStableFunc(modules, func(a, b *structType) int { return strings.Compare(a.id, b.id) })
		for _, m := range modules {
			name, ok := strings.CutPrefix(m.id, ch.prefix)
			if !ok || strings.Contains(name, ".") || ch.prefix == "edgerelay" && name != "" {
				continue
			}
			if name == "" {
				name = m.id
			}
			w.module(m, ch.caddyfile+name, 3)
		}
	}
	return w.Bytes(), w.fault
}

type writer struct {
	bytes.Buffer
	placed map[*structType]string // anchors of the sections
	fault  error
}

func (w *writer) line(s string) { w.WriteString(s); w.WriteByte('\n') }

// module writes the section of a struct, and those of the structs in its settings.
func (w *writer) module(s *structType, title string, level int) {
	w.placed[s] = slug(title)
	for _, name := range s.undocumented {
		w.fault = errors.Join(w.fault, fmt.Errorf("%s.%s has no comment: say what it means and what its default is", s.name, name))
	}
	w.line("")
	w.line(strings.Repeat("#", level) + " " + title)
	w.line("")
	if grammar := s.caddyfile(); len(grammar) > 0 {
		w.line("```caddyfile")
		w.line(strings.Join(grammar, "\n\n"))
		w.line("```")
		w.line("")
	}
	w.line(s.sentence(s.doc, nil))
	if len(s.fields) == 0 {
		return
	}
	// Named here, so that the rows can link to them.
	type part struct {
		s     *structType
		title string
	}
	var parts []part
	for _, f := range s.fields {
		if inner := s.lookup(structName(f.typ)); inner != nil && w.placed[inner] == "" {
			of := title + ": "
			if s.id == "edgerelay" {
				of = ""
			}
			if len(inner.grammar) == 0 && f.inBlock {
				inner.grammar = []string{f.directive + " { … }"}
			}
			parts = append(parts, part{inner, of + f.directive})
			w.placed[inner] = slug(of + f.directive)
		}
	}
	w.line("")
	w.line("| setting | type | default | meaning |")
	w.line("|---|---|---|---|")
	for _, f := range s.fields {
		text, standard := splitDefault(s.sentence(f.doc, &f))
		key := "`" + f.key + "`"
		if f.directive != f.key {
			key += ", in a Caddyfile `" + f.directive + "`"
		}
		w.line(fmt.Sprintf("| %s | %s | %s | %s |", key, w.typeOf(s, &f), standard, text))
	}
	for _, p := range parts {
		w.module(p.s, p.title, min(level+1, 4))
	}
}

// structName is the name of the struct in a type, however it is wrapped.
func structName(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return structName(t.X)
	case *ast.ArrayType:
		return structName(t.Elt)
	case *ast.MapType:
		return structName(t.Value)
	case *ast.Ident:
		return t.Name
	case *ast.SelectorExpr:
		return fmt.Sprint(t.X) + "." + t.Sel.Name
	}
	return ""
}

// splitDefault takes "Default: x." off the end of a sentence.
func splitDefault(text string) (rest, standard string) {
	rest, standard, ok := strings.Cut(text, "Default: ")
	if !ok {
		return text, ""
	}
	standard, after, _ := strings.Cut(standard, ". ")
	return strings.TrimSpace(rest + after), strings.TrimSuffix(standard, ".")
}

// caddyfile returns the grammar of s: a head that ends in a block is followed by the settings.
func (s *structType) caddyfile() (blocks []string) {
	for _, g := range s.grammar {
		if head, ok := strings.CutSuffix(g, " { … }"); ok {
			g = s.block(head)
		}
		blocks = append(blocks, g)
	}
	return blocks
}

// typeOf describes the type of a setting of s.
func (w *writer) typeOf(s *structType, f *field) string {
	if f.namespace != "" {
		if _, ok := f.typ.(*ast.ArrayType); ok {
			return "list of modules of `" + f.namespace + "`"
		}
		return "a module of `" + f.namespace + "`"
	}
	if f.args == "<size>" {
		return "size"
	}
	return w.typeName(s, f.typ)
}

// typeName describes a type of Go in the terms of JSON.
func (w *writer) typeName(s *structType, t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return w.typeName(s, t.X)
	case *ast.ArrayType:
		return "list of " + w.typeName(s, t.Elt)
	case *ast.MapType:
		return "object of " + w.typeName(s, t.Value)
	case *ast.SelectorExpr:
		switch name := fmt.Sprint(t.X) + "." + t.Sel.Name; name {
		case "caddy.Duration":
			return "duration"
		case "settings.DurationOrOff":
			return "duration or `off`"
		case "json.RawMessage":
			return "any JSON"
		default:
			if anchor := w.placed[s.lookup(name)]; anchor != "" {
				return "[object](#" + anchor + ")"
			}
			return "`" + name + "`"
		}
	case *ast.Ident:
		if anchor := w.placed[s.lookup(t.Name)]; anchor != "" {
			return "[object](#" + anchor + ")"
		}
		switch t.Name {
		case "bool":
			return "boolean"
		case "int", "int64", "uint8", "uint64", "float64":
			return "number"
		default:
			return t.Name
		}
	}
	return "any"
}

var (
	docLink = regexp.MustCompile(`\[([\w.*]+)\]`)
	// asCode are values within sentences: quoted, placeholders, addresses, dotted names.
	asCode = regexp.MustCompile("`[^`]*`" + `|"([^" ]+)"|(\{[a-z]+\.[^} ]+\}|\b[a-z]+(?:\+[a-z]+)?://[^\s,;)]*[^\s,;).:]|\bedgerelay\.[a-z_]+\b)`)
	// escaped is what would be Markdown.
	escaped = strings.NewReplacer("*", `\*`, "<", `\<`, "|", `\|`)
)

// sentence turns a comment into Markdown on one line, with fields called as in JSON.
func (s *structType) sentence(doc string, f *field) string {
	doc = strings.Join(strings.Fields(doc), " ")
	doc = docLink.ReplaceAllString(doc, "$1")
	subject := s.name
	if f != nil {
		subject = f.name
	}
	// "Limits bound what …" beside a heading or key that says limits already.
	if rest, ok := strings.CutPrefix(doc, subject+" "); ok {
		for _, be := range []string{"is ", "are "} {
			rest = strings.TrimPrefix(rest, be)
		}
		doc = strings.ToUpper(rest[:1]) + rest[1:]
	}
	for _, f := range s.fields {
		key := "`" + f.key + "`"
		if strings.ToUpper(f.name) == f.name { // JSON, URL, KV: words, too, but where a sentence begins with them
			doc = regexp.MustCompile(`(^|[.;] )`+f.name+` (is|are|has|bounds|demands)\b`).ReplaceAllString(doc, "${1}"+key+" ${2}")
			continue
		}
		doc = regexp.MustCompile(`(^|[^\w"'`+"`"+`.])`+f.name+`\b`).ReplaceAllString(doc, "${1}"+key)
	}
	var b strings.Builder
	for rest := doc; ; {
		at := asCode.FindStringSubmatchIndex(rest)
		if at == nil {
			b.WriteString(escaped.Replace(rest))
			return b.String()
		}
		b.WriteString(escaped.Replace(rest[:at[0]]))
		switch code := rest[at[0]:at[1]]; {
		case at[2] >= 0:
			code = rest[at[2]:at[3]]
			fallthrough
		case at[4] >= 0:
			b.WriteString("`" + strings.ReplaceAll(code, "|", `\|`) + "`")
		default:
			b.WriteString(strings.ReplaceAll(code, "|", `\|`))
		}
		rest = rest[at[1]:]
	}
}
