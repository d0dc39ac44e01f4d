package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// configPackages are the directories with the structs of the configuration, relative to the module's root. The files
// are parsed, not compiled.
var configPackages = []string{
	"caddymodule", "caddymodule/layers", "caddymodule/auth", "caddymodule/discovery", "caddymodule/pluginhost",
	"caddymodule/node", "caddymodule/console", "caddymodule/publishing", "caddymodule/uwsgi",
}

// config is the configuration that one or more packages declare.
type config struct {
	// structs are the struct types of the package being read, by name.
	structs map[string]*structType
	// all are the struct types of all packages, by package and name, such as node.Drain.
	all map[string]*structType
	// modules are the types that are Caddy modules, in the order of the files.
	modules []*structType
}

// structType is a struct with settings.
type structType struct {
	name   string
	doc    string
	id     string // of the Caddy module; empty for a struct within a module
	fields []field
	// undocumented are the settings without a comment.
	undocumented []string
	// embedded are the names of the embedded structs; their settings are copied into fields.
	embedded []string
	// grammar are the Caddyfile blocks in the comments of the functions that read this type.
	grammar []string
	// siblings are the struct types of the same package, by name.
	siblings map[string]*structType
	// all are the struct types of every package, by package and name.
	all map[string]*structType
}

// field is a setting.
type field struct {
	key       string // in JSON
	directive string // in a Caddyfile
	args      string // in a Caddyfile; see [caddymodule/settings.Read]
	inBlock   bool   // it can be set in a Caddyfile's block
	name      string // in Go
	typ       ast.Expr
	doc       string
	namespace string // of the modules that are the setting's value
}

// readConfig reads the Go files of the directories.
func readConfig(dirs ...string) (*config, error) {
	c := &config{all: map[string]*structType{}}
	for _, dir := range dirs {
		if err := c.readPackage(dir); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// readPackage adds the modules of one directory.
func (c *config) readPackage(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no Go files in %s: run this in the module's root (%v)", dir, err)
	}
	c.structs = map[string]*structType{}
	var parsed []*ast.File
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		parsed = append(parsed, f)
		for _, d := range f.Decls {
			if d, ok := d.(*ast.GenDecl); ok {
				if err := c.addTypes(d); err != nil {
					return err
				}
			}
		}
	}
	for _, s := range c.structs {
		c.all[filepath.Base(dir)+"."+s.name] = s
		for _, name := range s.embedded {
			if e := c.structs[name]; e != nil {
				s.fields = append(slices.Clone(e.fields), s.fields...)
			}
		}
	}
	for _, f := range parsed {
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok {
				c.addFunc(d)
			}
		}
	}
	return nil
}

func (c *config) addTypes(d *ast.GenDecl) error {
	for _, spec := range d.Specs {
		spec, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		st, ok := spec.Type.(*ast.StructType)
		if !ok || !spec.Name.IsExported() {
			continue
		}
		doc := spec.Doc
		if doc == nil {
			doc = d.Doc
		}
		s := &structType{name: spec.Name.Name, doc: doc.Text(), siblings: c.structs, all: c.all}
		for _, f := range st.Fields.List {
			if err := s.addField(f); err != nil {
				return err
			}
		}
		c.structs[s.name] = s
	}
	return nil
}

func (s *structType) addField(f *ast.Field) error {
	if id, ok := f.Type.(*ast.Ident); ok && len(f.Names) == 0 && f.Tag == nil {
		s.embedded = append(s.embedded, id.Name)
		return nil
	}
	if f.Tag == nil || len(f.Names) != 1 || !f.Names[0].IsExported() {
		return nil
	}
	text, err := strconv.Unquote(f.Tag.Value)
	if err != nil {
		return err
	}
	tag := reflect.StructTag(text)
	key, _, _ := strings.Cut(tag.Get("json"), ",")
	if key == "" || key == "-" {
		return nil
	}
	doc := f.Doc.Text()
	if doc == "" {
		doc = f.Comment.Text()
	}
	if doc == "" {
		s.undocumented = append(s.undocumented, f.Names[0].Name)
	}
	set := field{key: key, directive: key, name: f.Names[0].Name, typ: f.Type, doc: doc}
	if set.args, set.inBlock = tag.Lookup("caddyfile"); set.inBlock {
		if directive, args, ok := strings.Cut(set.args, "="); ok {
			set.directive, set.args = directive, args
		}
	}
	if _, ns, ok := strings.Cut(tag.Get("caddy"), "namespace="); ok {
		set.namespace, _, _ = strings.Cut(ns, " ")
		// The comment names the setting without the Raw at the end of the Go name.
		set.name = strings.TrimSuffix(set.name, "Raw")
	}
	s.fields = append(s.fields, set)
	return nil
}

// addFunc reads a module's ID from a CaddyModule method, and the grammar from the comment of a function that parses a
// Caddyfile.
func (c *config) addFunc(d *ast.FuncDecl) {
	s := c.structOf(d)
	if s == nil {
		return
	}
	if d.Name.Name == "CaddyModule" {
		ast.Inspect(d.Body, func(n ast.Node) bool {
			if kv, ok := n.(*ast.KeyValueExpr); ok && fmt.Sprint(kv.Key) == "ID" {
				if value, ok := kv.Value.(*ast.BasicLit); ok {
					s.id, _ = strconv.Unquote(value.Value)
				}
			}
			return true
		})
		c.modules = append(c.modules, s)
		return
	}
	s.grammar = append(s.grammar, grammar(d.Doc.Text())...)
}

// structOf returns the type that a function reads: the receiver's type, or the type of the first composite literal.
func (c *config) structOf(d *ast.FuncDecl) *structType {
	if d.Recv != nil {
		t := d.Recv.List[0].Type
		if star, ok := t.(*ast.StarExpr); ok {
			t = star.X
		}
		return c.structs[fmt.Sprint(t)]
	}
	var made *structType
	if d.Body != nil && d.Doc != nil {
		ast.Inspect(d.Body, func(n ast.Node) bool {
			if lit, ok := n.(*ast.CompositeLit); ok && made == nil {
				if id, ok := lit.Type.(*ast.Ident); ok {
					made = c.structs[id.Name]
				}
			}
			return made == nil
		})
	}
	return made
}

var readsOneLine = regexp.MustCompile("reads `([^`]+)`")

// grammar returns the Caddyfile in a comment: after "reads", an indented block or one line between backticks.
func grammar(doc string) []string {
	if !strings.Contains(doc, "reads") {
		return nil
	}
	var lines []string
	for line := range strings.Lines(doc) {
		if line, ok := strings.CutPrefix(line, "\t"); ok {
			lines = append(lines, line)
		}
	}
	if len(lines) > 0 {
		return []string{strings.TrimRight(strings.Join(lines, ""), "\n")}
	}
	if m := readsOneLine.FindStringSubmatch(doc); m != nil {
		return []string{m[1]}
	}
	return nil
}

// lookup returns the struct type that a field of s names, or nil.
func (s *structType) lookup(name string) *structType {
	if t := s.siblings[name]; t != nil {
		return t
	}
	return s.all[name]
}

// block returns a Caddyfile block with the head and the aligned settings of s.
func (s *structType) block(head string) string {
	wide := 0
	for _, f := range s.fields {
		if f.inBlock && f.args != "-" {
			wide = max(wide, len(f.directive))
		}
	}
	lines := []string{head + " {"}
	for _, f := range s.fields {
		switch {
		case !f.inBlock:
		case f.args == "-":
			lines = append(lines, "\t"+f.directive)
		default:
			lines = append(lines, fmt.Sprintf("\t%-*s %s", wide, f.directive, f.args))
		}
	}
	return strings.Join(append(lines, "}"), "\n")
}
