package pluginhost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

const (
	// maxSecretFile bounds the file of a secret, in bytes.
	maxSecretFile = 64 << 10
	// maxSecrets bounds the number of placeholders in a configuration.
	maxSecrets = 256
)

// Prefixes of placeholders in a plugin's configuration. Other braces are text: a configuration may hold regular
// expressions and templates.
const (
	envPrefix  = "{env."
	filePrefix = "{file."
)

// resolveSecrets replaces the placeholders {env.NAME} and {file./path} in the string values of a plugin's
// configuration. A backslash before the brace keeps the text. It returns the values that replaced placeholders. A
// placeholder without a value is an error, which names no value.
func resolveSecrets(config json.RawMessage) (resolved json.RawMessage, secrets []string, err error) {
	if !bytes.Contains(config, []byte(envPrefix)) && !bytes.Contains(config, []byte(filePrefix)) {
		return config, nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(config))
	d.UseNumber()
	r := secretResolver{read: readSecret}
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, nil, errors.New("config: invalid JSON")
	}
	if value, err = r.value(value, "config"); err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, nil, fmt.Errorf("config: %w", err)
	}
	return bytes.TrimSpace(out.Bytes()), r.secrets, nil
}

// ResolveConfig replaces the placeholders of a plugin's configuration as a relay does, for trials without one. secrets
// are the values that replaced placeholders.
func ResolveConfig(config json.RawMessage) (resolved json.RawMessage, secrets []string, err error) {
	return resolveSecrets(config)
}

// secretResolver replaces placeholders and collects their values.
type secretResolver struct {
	read    func(placeholder string) (string, error)
	secrets []string
}

func (r *secretResolver) value(v any, at string) (_ any, err error) {
	switch v := v.(type) {
	case string:
		return r.text(v, at)
	case []any:
		for i := range v {
			if v[i], err = r.value(v[i], fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for name := range v {
			if v[name], err = r.value(v[name], at+"."+name); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

func (r *secretResolver) text(s, at string) (string, error) {
	var out strings.Builder
	for {
		i := nextPlaceholder(s)
		if i < 0 {
			return out.String() + s, nil
		}
		if i > 0 && s[i-1] == '\\' {
			out.WriteString(s[:i-1] + s[i:i+1])
			s = s[i+1:]
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return "", fmt.Errorf("%s: a placeholder has no closing brace; "+
				`write \\{ in JSON for a brace that begins no placeholder`, at)
		}
		placeholder := s[i : i+end+1]
		secret, err := r.read(placeholder)
		if err != nil {
			return "", fmt.Errorf("%s: %s: %w", at, placeholder, err)
		}
		if r.secrets = append(r.secrets, secret); len(r.secrets) > maxSecrets {
			return "", fmt.Errorf("%s: more than %d placeholders", at, maxSecrets)
		}
		out.WriteString(s[:i] + secret)
		s = s[i+end+1:]
	}
}

// nextPlaceholder returns the position of the first placeholder in s, or -1.
func nextPlaceholder(s string) int {
	env, file := strings.Index(s, envPrefix), strings.Index(s, filePrefix)
	if env < 0 || file >= 0 && file < env {
		return file
	}
	return env
}

// readSecret returns the value of a placeholder.
func readSecret(placeholder string) (string, error) {
	if name, ok := strings.CutPrefix(placeholder, envPrefix); ok {
		name = strings.TrimSuffix(name, "}")
		value := os.Getenv(name)
		switch {
		case value == "":
			return "", fmt.Errorf("the environment variable is not set, or empty; set %s for the relay's process", name)
		case !utf8.ValidString(value):
			return "", errors.New("the environment variable is not UTF-8")
		}
		return value, nil
	}
	name := strings.TrimSuffix(strings.TrimPrefix(placeholder, filePrefix), "}")
	b, err := readRegular(name, maxSecretFile)
	if err != nil {
		return "", err
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	switch {
	case value == "":
		return "", errors.New("the file is empty")
	case !utf8.ValidString(value):
		return "", errors.New("the file is not UTF-8")
	}
	return value, nil
}

// readRegular reads a file of at most limit bytes. It does not wait for writers of a named pipe.
func readRegular(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return b, err
}
