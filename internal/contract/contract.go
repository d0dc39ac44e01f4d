// Package contract holds the responses of a server to an OpenAPI description, in tests.
package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// resource is the name of the description within the compiler.
const resource = "openapi.json"

// operation is a method of a path.
type operation struct {
	Responses map[string]struct {
		Content map[string]json.RawMessage
	}
	RequestBody struct {
		Content map[string]json.RawMessage
	}
}

// Contract is a description, with the statuses that were seen. It is for one goroutine.
type Contract struct {
	t        testing.TB
	compiler *jsonschema.Compiler
	paths    map[string]map[string]operation
	seen     map[string]bool // method, path and status
}

// New reads a description.
func New(t testing.TB, description []byte) *Contract {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(description))
	if err != nil {
		t.Fatal(err)
	}
	c := &Contract{t: t, compiler: jsonschema.NewCompiler(), seen: map[string]bool{}}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(resource, doc); err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Paths map[string]map[string]operation
	}
	if err := json.Unmarshal(description, &spec); err != nil {
		t.Fatal(err)
	}
	c.paths = spec.Paths
	return c
}

// Paths returns the documented paths, sorted.
func (c *Contract) Paths() []string { return slices.Sorted(maps.Keys(c.paths)) }

// Methods returns the documented methods of a path in upper case, sorted.
func (c *Contract) Methods(path string) (methods []string) {
	for method := range c.paths[path] {
		methods = append(methods, strings.ToUpper(method))
	}
	slices.Sort(methods)
	return methods
}

// Check holds a response to what is documented for it. Bodies other than a single JSON value are checked line by line.
func (c *Contract) Check(method, path string, status int, kind, body string) {
	c.t.Helper()
	responses := c.paths[path][strings.ToLower(method)].Responses
	documented, ok := responses[fmt.Sprint(status)]
	if !ok {
		c.t.Errorf("%s %s answers %d, which is not documented: %s", method, path, status, body)
		return
	}
	c.seen[fmt.Sprint(method, " ", path, " ", status)] = true
	kind, _, _ = strings.Cut(kind, ";")
	if _, ok := documented.Content[kind]; !ok {
		c.t.Errorf("%s %s: %d is documented, but not as %q", method, path, status, kind)
		return
	}
	if !strings.Contains(kind, "json") {
		return
	}
	schema := c.schema(path, method, fmt.Sprintf("responses/%d", status), kind)
	values := slices.Collect(strings.Lines(body))
	if strings.HasSuffix(kind, "/json") || strings.HasSuffix(kind, "+json") {
		values = []string{body}
	}
	for _, text := range values {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			c.t.Fatalf("%s %s: %v: %s", method, path, err, body)
		}
		if err := schema.Validate(value); err != nil {
			c.t.Errorf("%s %s %d: %v\n%s", method, path, status, err, body)
		}
	}
}

// Accepts reports whether a request's body, as JSON, is as documented, and the first fault.
func (c *Contract) Accepts(method, path, body string) error {
	c.t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		return err
	}
	return c.schema(path, method, "requestBody", "application/json").Validate(value)
}

// schema compiles the schema of a body.
func (c *Contract) schema(path, method, part, kind string) *jsonschema.Schema {
	c.t.Helper()
	escape := strings.NewReplacer("~", "~0", "/", "~1").Replace
	schema, err := c.compiler.Compile(fmt.Sprintf("%s#/paths/%s/%s/%s/content/%s/schema", resource, escape(path),
		strings.ToLower(method), part, escape(kind)))
	if err != nil {
		c.t.Fatal(err)
	}
	return schema
}

// Succeeded reports whether a status 2xx of a method was seen.
func (c *Contract) Succeeded(method, path string) bool {
	for status := range c.paths[path][strings.ToLower(method)].Responses {
		if status[0] == '2' && c.seen[method+" "+path+" "+status] {
			return true
		}
	}
	return false
}

// Unseen returns the documented statuses that were not seen, as "POST /path 200", sorted.
func (c *Contract) Unseen() (list []string) {
	for path, methods := range c.paths {
		for method, op := range methods {
			for status := range op.Responses {
				if name := strings.ToUpper(method) + " " + path + " " + status; !c.seen[name] {
					list = append(list, name)
				}
			}
		}
	}
	slices.Sort(list)
	return list
}
