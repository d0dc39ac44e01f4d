package caddymodule

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// typeDocs has the comments of the types of a package, by the name of the type.
type typeDocs map[string]*typeDoc

type typeDoc struct {
	doc    string
	fields map[string]string // name → comment
}

// Caddy's website makes the page of a module from these comments: one for the type, and one for each setting in JSON,
// however deep.
func TestModulesAreDocumented(t *testing.T) {
	packages := map[string]typeDocs{}
	seen := map[reflect.Type]bool{}
	count := 0
	for _, name := range caddy.Modules() {
		info, err := caddy.GetModule(name)
		if err != nil {
			t.Fatal(err)
		}
		of := reflect.TypeOf(info.New())
		for of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if !ours(of) || isTest(t, packages, of) {
			continue
		}
		count++
		t.Run(name, func(t *testing.T) {
			doc := docsOf(t, packages, of)[of.Name()]
			text := strings.Join(strings.Fields(doc.doc), " ")
			if !strings.HasPrefix(text, of.Name()+" ") || len(text) < 60 || !strings.Contains(text, ".") {
				t.Errorf("%s: %q says too little", of, text)
			}
			checkFields(t, packages, seen, of)
		})
	}
	if count < 15 {
		t.Errorf("only %d modules are registered", count)
	}
}

const ourModule = "github.com/edgerelay/edgerelay/"

func ours(of reflect.Type) bool { return strings.HasPrefix(of.PkgPath()+"/", ourModule) }

// isTest reports whether a type is one of this package's tests.
func isTest(t *testing.T, packages map[string]typeDocs, of reflect.Type) bool {
	return docsOf(t, packages, of)[of.Name()] == nil
}

// docsOf parses the package of a type, without its tests.
func docsOf(t *testing.T, packages map[string]typeDocs, of reflect.Type) typeDocs {
	t.Helper()
	dir := filepath.Join("..", filepath.FromSlash(strings.TrimPrefix(of.PkgPath(), ourModule)))
	if packages[dir] != nil {
		return packages[dir]
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files in %s (%v)", of, dir, err)
	}
	found := typeDocs{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
				found.add(g)
			}
		}
	}
	packages[dir] = found
	return found
}

func (d typeDocs) add(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		s := spec.(*ast.TypeSpec)
		doc := &typeDoc{doc: g.Doc.Text() + s.Doc.Text(), fields: map[string]string{}}
		if structure, ok := s.Type.(*ast.StructType); ok {
			for _, f := range structure.Fields.List {
				for _, name := range f.Names {
					doc.fields[name.Name] = f.Doc.Text()
				}
			}
		}
		d[s.Name.Name] = doc
	}
}

// checkFields reports settings without a comment, in a struct and in the structs of its settings.
func checkFields(t *testing.T, packages map[string]typeDocs, seen map[reflect.Type]bool, of reflect.Type) {
	t.Helper()
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice || of.Kind() == reflect.Map {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct || !ours(of) || of.Name() == "" || seen[of] {
		return
	}
	seen[of] = true
	doc := docsOf(t, packages, of)[of.Name()]
	if doc == nil {
		return
	}
	for i := range of.NumField() {
		f := of.Field(i)
		if !f.IsExported() || f.Tag.Get("json") == "-" {
			continue
		}
		checkFields(t, packages, seen, f.Type)
		if f.Anonymous {
			continue
		}
		comment := strings.TrimSpace(doc.fields[f.Name])
		if f.Tag.Get("json") == "" || comment == "" || !strings.HasSuffix(comment, ".") && !strings.HasSuffix(comment, ":") {
			t.Errorf("%s.%s: json %q, comment %q; the page needs both", of, f.Name, f.Tag.Get("json"), comment)
		}
	}
}
