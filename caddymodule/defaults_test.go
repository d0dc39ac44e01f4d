package caddymodule

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/edgerelay/edgerelay/relay"
	authz "github.com/edgerelay/edgerelay/relay/authz/awx"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// documentedDefault is a number, a size or a duration at the beginning of a sentence "Default: …".
var documentedDefault = regexp.MustCompile(`Default: (\d[\d.]*(?: [KMG]iB|[a-z]+)?)`)

// defaultsOf returns the documented defaults of a struct, by the field's name.
func defaultsOf(t *testing.T, file, name string) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != name {
			return true
		}
		for _, f := range spec.Type.(*ast.StructType).Fields.List {
			if m := documentedDefault.FindStringSubmatch(strings.Join(strings.Fields(f.Doc.Text()), " ")); m != nil {
				found[f.Names[0].Name] = strings.TrimSuffix(m[1], ".")
			}
		}
		return true
	})
	if len(found) == 0 {
		t.Fatalf("%s: %s documents no default", file, name)
	}
	return found
}

// parseDefault returns a number, a number of bytes, or nanoseconds.
func parseDefault(text string) (float64, error) {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return n, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return float64(d), nil
	}
	n, err := humanize.ParseBytes(text)
	return float64(n), err
}

// The comments of settings, from which the reference is generated, name the engine's defaults.
func TestDocumentedDefaultsAreTheEngines(t *testing.T) {
	layer := redis.DefaultSettings()
	for _, c := range []struct {
		name, file string
		engine     any
		renamed    map[string]string // fields that the engine calls otherwise, "" for those that it does not have
	}{
		{"Limits", "limits.go", relay.DefaultLimits(), nil},
		{"RedisLayer", "layers/redis.go", layer, nil},
		{"AWX", "auth/awx.go", authz.DefaultSettings(), map[string]string{
			"GatewayTokenGrace": "TokenGrace", "Recheck": "", "RecheckGrace": "", // package auth has the defaults
		}},
		{"Backplane", "backplane.go", backplane.Settings{}.WithDefaults(), map[string]string{
			"QueuePerPeer": "QueueBytes", "SubscribeWait": "JoinWait",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for field, text := range defaultsOf(t, c.file, c.name) {
				name, ok := c.renamed[field]
				if !ok {
					name = field
				}
				if name == "" {
					continue
				}
				value := reflect.ValueOf(c.engine).FieldByName(name)
				if !value.IsValid() {
					t.Errorf("%s: the engine has no field %s", field, name)
					continue
				}
				want, err := parseDefault(text)
				if err != nil {
					t.Errorf("%s: %v", field, err)
					continue
				}
				got := value.Convert(reflect.TypeFor[float64]()).Float()
				if got != want {
					t.Errorf("%s: the comment says %s, the engine has %v", field, text, value)
				}
			}
		})
	}
}
