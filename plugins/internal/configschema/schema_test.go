package configschema

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	deep := strings.Repeat(`{"items":`, 40) + "{}" + strings.Repeat("}", 40)
	for name, c := range map[string]struct{ schema, want string }{
		"every keyword": {`{"type": "object", "description": "d", "default": {}, "required": ["a"],
			"properties": {"a": {"type": ["string", "null"], "minLength": 1, "maxLength": 3}},
			"additionalProperties": {"items": {"enum": [1, "x", null]}, "minimum": 1, "maximum": 2}}`, ""},
		"boolean":            {`true`, ""},
		"reference":          {`{"properties": {"a": {"$ref": "#"}}}`, `/properties/a: unsupported keyword "$ref"; use type`},
		"pattern":            {`{"pattern": "(a+)+"}`, `unsupported keyword "pattern"`},
		"unknown type":       {`{"type": "text"}`, `unknown type "text"; use null`},
		"no type":            {`{"type": []}`, "must name 1 to 7"},
		"list":               {`[]`, "not a JSON object"},
		"null":               {`null`, "not a JSON object"},
		"wrong required":     {`{"required": "a"}`, "required must be an array of strings"},
		"wrong minLength":    {`{"minLength": 1.5}`, "minLength must be an integer"},
		"wrong minimum":      {`{"minimum": null}`, "minimum must be a number"},
		"wrong properties":   {`{"properties": []}`, "properties must be an object"},
		"wrong enum":         {`{"enum": {}}`, "enum must be an array"},
		"nested too deeply":  {deep, "more than 32 deep"},
		"not JSON":           {`{`, "not a JSON object"},
		"wrong description":  {`{"description": 1}`, "description must be a string"},
		"wrong item schemas": {`{"items": [{}]}`, "/items is not a JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.schema))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	const words = `{"type": "object", "required": ["words"], "additionalProperties": false, "properties": {
		"words": {"type": "array", "items": {"type": "string", "minLength": 2, "maxLength": 8}},
		"mode": {"enum": ["mask", 1, {"a": [1, 2]}, 12345678901234567890]},
		"rate": {"type": "integer", "minimum": 1, "maximum": 10}}}`
	for name, c := range map[string]struct{ schema, value, want string }{
		"valid":             {words, `{"words": ["password"], "mode": {"a": [1.0, 2]}, "rate": 3.0}`, ""},
		"equal numbers":     {words, `{"words": [], "mode": 1.0e0}`, ""},
		"large integer":     {words, `{"words": [], "mode": 12345678901234567890}`, ""},
		"other integer":     {words, `{"words": [], "mode": 12345678901234567891}`, "config.mode is none of the 4 values"},
		"missing":           {words, `{}`, `config lacks the member "words"`},
		"null":              {words, `null`, "config is null, must be object"},
		"type":              {words, `{"words": "hunter2"}`, "config.words is a string, must be array"},
		"short":             {words, `{"words": ["ok", "é"]}`, "config.words[1] has 1 characters, must have at least 2"},
		"long":              {words, `{"words": ["correct horse"]}`, "must have at most 8"},
		"enum":              {words, `{"words": [], "mode": "hunter2"}`, "config.mode is none of"},
		"unknown":           {words, `{"words": [], "wrods": 1}`, `config has the unknown member "wrods"`},
		"fraction":          {words, `{"words": [], "rate": 1.5}`, "config.rate is a number, must be integer"},
		"low":               {words, `{"words": [], "rate": 0}`, "config.rate must be at least 1"},
		"high":              {words, `{"words": [], "rate": 1e300}`, "config.rate must be at most 10"},
		"percent":           {`{"additionalProperties": {"type": "null"}}`, `{"%s%d": 1}`, "config.%s%d is an integer"},
		"additional schema": {`{"additionalProperties": {"maximum": 1}}`, `{"a": 2}`, "config.a must be at most 1"},
		"never":             {`{"properties": {"a": false}}`, `{"a": 1}`, "config.a is not allowed"},
		"two documents":     {`{}`, `1 2`, "not valid JSON"},
		"enormous exponent": {`{"maximum": 1}`, `1e999999999`, "out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse([]byte(c.schema))
			if err != nil {
				t.Fatal(err)
			}
			err = s.Check("config", []byte(c.value))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "horse")) {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}

func TestFaultsAreBounded(t *testing.T) {
	s, err := Parse([]byte(`{"items": {"type": "string"}}`))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Check("config", []byte("["+strings.Repeat("1,", 100_000)+"1]"))
	if n := strings.Count(err.Error(), "\n") + 1; n != maxFaults {
		t.Errorf("%d faults are listed, want %d", n, maxFaults)
	}
}

// A stranger's schema of 64 KiB and a configuration of 1 MiB do not multiply.
func TestCheckIsLinear(t *testing.T) {
	schema := `{"items": {"enum": ["` + strings.Repeat(`x","`, 15_000) + `"]}}`
	s, err := Parse([]byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := s.Check("config", []byte("["+strings.Repeat(`"x",`, 250_000)+`"x"]`)); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}

func FuzzSchema(f *testing.F) {
	f.Add([]byte(`{"type": "object", "properties": {"a": {"enum": [1]}}}`), []byte(`{"a": 1}`))
	f.Fuzz(func(_ *testing.T, schema, value []byte) {
		if s, err := Parse(schema); err == nil {
			_ = s.Check("config", value)
		}
	})
}
