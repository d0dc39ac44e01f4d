package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// apiFile is the page about the HTTP interfaces, written from their OpenAPI descriptions.
const apiFile = "docs/api.md"

// apiDescriptions are the descriptions, in the order of the page.
var apiDescriptions = []struct{ title, file, intro string }{
	{"Admin API", "docs/openapi.json", "The node serves this description at `GET /edgerelay/openapi.json`. " +
		"[Admin API and commands](admin.md) has examples."},
	{"Publish endpoint", "docs/publish.openapi.json", "[Publishing](publishing.md) explains the endpoint, with examples."},
}

// object is a JSON object that keeps the order of its members.
type object struct {
	keys   []string
	values map[string]json.RawMessage
}

// UnmarshalJSON implements [json.Unmarshaler].
func (o *object) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &o.values); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		o.keys = append(o.keys, key.(string))
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			return err
		}
	}
	return nil
}

// each calls visit with the members in order, decoded as T. A nil object has none.
func each[T any](o *object, visit func(name string, value T)) {
	if o == nil {
		return
	}
	for _, key := range o.keys {
		var value T
		if json.Unmarshal(o.values[key], &value) == nil {
			visit(key, value)
		}
	}
}

// openAPI is the part of a description that the page shows.
type openAPI struct {
	Info       struct{ Description string } `json:"info"`
	Paths      *object                      `json:"paths"`
	Components struct {
		Schemas *object `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	Summary     string      `json:"summary"`
	Description string      `json:"description"`
	Parameters  []parameter `json:"parameters"`
	RequestBody *payload    `json:"requestBody"`
	Responses   *object     `json:"responses"`
}

type parameter struct {
	Name        string  `json:"name"`
	In          string  `json:"in"`
	Required    bool    `json:"required"`
	Description string  `json:"description"`
	Schema      *schema `json:"schema"`
}

type payload struct {
	Description string  `json:"description"`
	Content     *object `json:"content"`
}

// schema is a JSON Schema, as far as the page shows it.
type schema struct {
	Ref         string          `json:"$ref"`
	Type        json.RawMessage `json:"type"`
	Format      string          `json:"format"`
	Description string          `json:"description"`
	Enum        []any           `json:"enum"`
	Const       any             `json:"const"`
	Properties  *object         `json:"properties"`
	Required    []string        `json:"required"`
	Items       *schema         `json:"items"`
	OneOf       []*schema       `json:"oneOf"`
	AnyOf       []*schema       `json:"anyOf"`
	AllOf       []*schema       `json:"allOf"`
}

// apiPage returns the page about the HTTP interfaces.
func apiPage(root string) ([]byte, error) {
	w := new(apiWriter)
	w.line("# API reference\n")
	w.prose("The HTTP requests of operators and publishers. Generated from the OpenAPI descriptions " +
		"[openapi.json](openapi.json) and [publish.openapi.json](publish.openapi.json); `go run ./internal/docs api` " +
		"writes this page again.")
	for _, d := range apiDescriptions {
		b, err := os.ReadFile(root + d.file)
		if err != nil {
			return nil, err
		}
		var api openAPI
		if err := json.Unmarshal(b, &api); err != nil {
			return nil, fmt.Errorf("%s: %w", d.file, err)
		}
		w.line("## %s\n", d.title)
		if api.Info.Description != "" {
			w.prose(api.Info.Description)
		}
		w.prose(d.intro)
		each(api.Paths, func(path string, methods *object) {
			each(methods, func(method string, o operation) { w.operation(method, path, o) })
		})
		w.line("### Objects of the %s\n", strings.ToLower(d.title[:1])+d.title[1:])
		each(api.Components.Schemas, w.schema)
	}
	return append(bytes.TrimRight(w.b.Bytes(), "\n"), '\n'), nil
}

type apiWriter struct {
	b bytes.Buffer
}

func (w *apiWriter) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

// prose writes a paragraph.
func (w *apiWriter) prose(text string) { w.line("%s\n", wrap(text)) }

func (w *apiWriter) operation(method, path string, o operation) {
	w.line("### %s %s\n", strings.ToUpper(method), path)
	w.prose(sentence(o.Summary))
	if o.Description != "" {
		w.prose(o.Description)
	}
	if len(o.Parameters) > 0 {
		w.line("| parameter | in | type | meaning |\n|---|---|---|---|")
		for _, p := range o.Parameters {
			name := "`" + p.Name + "`"
			if p.Required {
				name += ", required"
			}
			meaning := p.Description
			if meaning == "" && p.Schema != nil {
				meaning = p.Schema.Description
			}
			w.line("| %s | %s | %s | %s |", name, p.In, p.Schema.kind(), cell(meaning))
		}
		w.line("")
	}
	if o.RequestBody != nil {
		w.prose("Request body: " + sentence(o.RequestBody.summary()))
	}
	w.line("| status | response |\n|---|---|")
	each(o.Responses, func(status string, r payload) { w.line("| %s | %s |", status, cell(r.summary())) })
	w.line("")
}

// summary describes a body: its description, and its type in each media type.
func (p payload) summary() string {
	text := p.Description
	each(p.Content, func(media string, c struct{ Schema *schema }) {
		kind := c.Schema.kind()
		if kind == "" {
			kind = "body"
		}
		text = strings.TrimSuffix(text, ".")
		if text != "" {
			text += "; "
		}
		text += kind + " as `" + media + "`"
	})
	return text
}

func (w *apiWriter) schema(name string, s *schema) {
	w.line("#### %s\n", name)
	if s.Description != "" {
		w.prose(sentence(s.Description))
	}
	if rows := s.rows("", 0); len(rows) > 0 {
		w.line("| member | type | meaning |\n|---|---|---|")
		for _, row := range rows {
			w.line("%s", row)
		}
		w.line("")
		return
	}
	w.prose(sentence(s.kind()))
}

// maxDepth bounds the levels of members within one table.
const maxDepth = 3

// rows returns a table row for each member, with those of objects inside.
func (s *schema) rows(prefix string, depth int) (rows []string) {
	for _, part := range s.AllOf {
		rows = append(rows, part.rows(prefix, depth)...)
	}
	each(s.Properties, func(name string, p *schema) {
		at := prefix + name
		kind := p.kind()
		if !slices.Contains(s.Required, name) {
			kind += ", optional"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |", at, kind, cell(p.Description)))
		if inside := p; depth < maxDepth {
			at += "."
			if p.Items != nil {
				inside, at = p.Items, prefix+name+"[]."
			}
			rows = append(rows, inside.rows(at, depth+1)...)
		}
	})
	return rows
}

// kind names the type of a schema, with a link if the type has a section of its own.
func (s *schema) kind() string {
	if s == nil {
		return ""
	}
	if s.Ref != "" {
		name := s.Ref[strings.LastIndex(s.Ref, "/")+1:]
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	}
	for _, choice := range [][]*schema{s.OneOf, s.AnyOf, s.AllOf} {
		var kinds []string
		for _, c := range choice {
			if kind := c.kind(); kind != "" && !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
		if len(kinds) > 0 {
			return strings.Join(kinds, " or ")
		}
	}
	if s.Const != nil {
		s.Enum = []any{s.Const}
	}
	if len(s.Enum) > 0 {
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			b, _ := json.Marshal(v)
			values[i] = "`" + strings.Trim(string(b), `"`) + "`"
		}
		return strings.Join(values, ", ")
	}
	return s.plainKind()
}

// plainKind names a type without alternatives.
func (s *schema) plainKind() string {
	var one string
	var several []string
	if json.Unmarshal(s.Type, &one) == nil && one != "" {
		several = []string{one}
	} else {
		_ = json.Unmarshal(s.Type, &several)
	}
	for i, kind := range several {
		switch {
		case kind == "array" && s.Items.kind() != "":
			several[i] = "list of " + s.Items.kind()
		case kind == "string" && s.Format != "":
			several[i] = "string (" + s.Format + ")"
		}
	}
	return strings.Join(several, " or ")
}

// cell makes text fit for a table.
func cell(text string) string {
	return strings.NewReplacer("\n", " ", "|", `\|`).Replace(text)
}

// sentence ends text with a full stop.
func sentence(text string) string {
	if text == "" || strings.HasSuffix(text, ".") {
		return text
	}
	return text + "."
}
