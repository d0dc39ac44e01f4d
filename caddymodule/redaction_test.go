package caddymodule

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/cli"
)

// textSettings lists the settings of a type that hold texts, with a type that has them, also within blocks.
func textSettings(t reflect.Type, seen map[reflect.Type]bool, settings map[string]string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return
	}
	seen[t] = true
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous {
			textSettings(f.Type, seen, settings)
			continue
		}
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		kind := f.Type
		for kind.Kind() == reflect.Pointer || kind.Kind() == reflect.Slice || kind.Kind() == reflect.Map {
			kind = kind.Elem()
		}
		isModule := strings.Contains(f.Tag.Get("caddy"), "namespace=")
		if kind.Kind() == reflect.String || kind.Kind() == reflect.Uint8 && !isModule || kind.Kind() == reflect.Interface {
			settings[name] = fmt.Sprint(t, ".", f.Name)
		}
		textSettings(f.Type, seen, settings)
	}
}

// A support bundle shows the texts that a list names as plain: each setting with a text is a secret, or plain.
func TestEverySettingHasASecrecy(t *testing.T) {
	settings := map[string]string{}
	for _, id := range caddy.Modules() {
		own := id == "edgerelay" || strings.HasPrefix(id, "edgerelay.") || strings.HasPrefix(id, "http.handlers.edgerelay") ||
			id == "http.reverse_proxy.transport.uwsgi"
		if !own {
			continue
		}
		info, err := caddy.GetModule(id)
		if err != nil {
			t.Fatal(err)
		}
		textSettings(reflect.TypeOf(info.New()), map[reflect.Type]bool{}, settings)
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if cli.SettingSecrecy(name) == cli.Unknown {
			t.Errorf("%q (%s) is unknown; add it to secretSettings or plainSettings of caddymodule/cli", name, settings[name])
		}
	}
	if len(settings) < 40 {
		t.Errorf("only %d settings found", len(settings))
	}
}
