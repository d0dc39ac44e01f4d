package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// redacted replaces a value in a configuration.
const redacted = "[redacted]"

// Secrecy is the treatment of a setting's text in a support bundle.
type Secrecy int

const (
	// Unknown settings are redacted, too: only a setting that is known to be harmless is shown.
	Unknown Secrecy = iota
	// Secret settings are redacted. Their values are searched in all other files.
	Secret
	// Private settings hold any text of the operator, also secrets. They are redacted, and what looks like a secret in
	// them is searched.
	Private
	// Plain settings are shown, without credentials in URLs.
	Plain
)

// secretSettings are the settings of the relay's modules that hold secrets.
var secretSettings = []string{
	"key", "history_key", "secret", "secret_previous", "previous", "password", "sentinel_password",
	"symmetric_encryption_keys", "dsn",
}

// privateSettings are the settings of the relay's modules with texts, or JSON, of any meaning. config is that of a
// plugin, env the variables for uWSGI, value and text those of routes. start_message is sent to every client.
var privateSettings = []string{"config", "env", "value", "text", "start_message"}

// plainSettings are the settings of the relay's modules with texts that are no secrets.
var plainSettings = []string{
	"action", "actors", "address", "addresses", "admin", "advertise", "algorithms", "allow", "audience", "binary", "ca",
	"cert",
	"channels", "dialect", "emitters", "exclude", "expires", "file", "form", "grant", "group", "groups",
	"groups_claim", "handler", "headers", "include", "info", "ip", "issuer", "join", "jwks", "key_file", "keys",
	"kind", "master", "members", "method", "methods", "modifier1", "modifier2", "name", "node_name", "on_error",
	"operators", "origins", "other_groups", "path", "pattern", "plugin", "prefix", "private", "protocol", "publish",
	"refresh", "registries", "resync", "root", "samples", "scheme", "script_name", "sentinel_username", "serializer",
	"server_name",
	"session_cookie", "shadow_of", "state", "state_prefix", "subprotocols", "temp_dir", "tls_ca",
	"tls_server_name", "to", "type", "types", "unauthenticated", "url", "user", "username", "watch", "when",
}

// SettingSecrecy returns the treatment of a setting of the relay's modules. A test compares the lists with all modules.
func SettingSecrecy(name string) Secrecy {
	switch {
	case slices.Contains(secretSettings, name):
		return Secret
	case slices.Contains(privateSettings, name):
		return Private
	case slices.Contains(plainSettings, name):
		return Plain
	}
	return Unknown
}

// foreignSettings are the settings of Caddy and of other modules that are shown. Caddy's modules hold secrets in many
// places, such as headers, DNS providers and bodies of responses.
var foreignSettings = []string{
	"handler", "module", "protocol", "protocols", "listen", "host", "path", "method", "dial", "output", "level", "disabled",
	"group", "terminal", "policy", "subjects",
}

// pathSettings are plain settings whose texts are paths of requests, or patterns of them, also without a slash.
var pathSettings = []string{"path", "pattern", "prefix", "script_name"}

// fileSettings are plain settings that name files of this host. Their names, such as redact-1.2.3.wasm, are no tokens.
var fileSettings = []string{"ca", "cert", "file", "key_file", "root", "samples", "temp_dir", "tls_ca"}

// redactor removes secrets from Caddy's configuration, and collects them.
type redactor struct {
	// secrets are the values, or placeholders, of secret settings.
	secrets []string
	// removed counts the redacted values.
	removed int
}

// redactConfig returns a configuration without secrets. Placeholders stay, because they only name secrets.
func redactConfig(config json.RawMessage) (json.RawMessage, *redactor, error) {
	var value any
	if err := json.Unmarshal(config, &value); err != nil {
		return nil, nil, err
	}
	r := &redactor{}
	var text bytes.Buffer
	err := printJSON(&text, r.value(value, "", scopeForeign))
	slices.Sort(r.secrets)
	r.secrets = slices.Compact(r.secrets)
	return text.Bytes(), r, err
}

// scope is the part of the configuration in which a value is.
type scope int

const (
	scopeForeign scope = iota // Caddy's own, or another module's
	scopeOwn                  // the relay's
	scopePrivate              // within a private setting of the relay
)

// value returns v without secrets. name is that of the closest setting.
func (r *redactor) value(v any, name string, in scope) any {
	switch v := v.(type) {
	case string:
		return r.text(v, name, in)
	case []any:
		for i := range v {
			v[i] = r.value(v[i], name, in)
		}
		return v
	case map[string]any:
		if isOwnModule(v, name) {
			in = max(in, scopeOwn)
		}
		for _, key := range slices.Collect(maps.Keys(v)) {
			inner := in
			if in == scopeOwn && SettingSecrecy(key) == Private {
				inner = scopePrivate
			}
			v[key] = r.value(v[key], key, inner)
		}
		if in != scopeOwn {
			r.memberNames(v)
		}
		return v
	case float64:
		if in == scopePrivate { // a number may be a secret of a plugin
			r.removed++
			return redacted
		}
	}
	return v
}

// memberNames redacts the names of members that are probably secrets, such as the tokens in a plugin's list of users.
func (r *redactor) memberNames(v map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if len(name) < minSecretText || !looksSecret("", name) {
			continue
		}
		r.collect(name)
		r.removed++
		v[fmt.Sprintf("[redacted %d]", r.removed)] = v[name]
		delete(v, name)
	}
}

// isOwnModule reports whether an object is a module of the relay: the app, a handler or a transport.
func isOwnModule(v map[string]any, name string) bool {
	handler, _ := v["handler"].(string)
	protocol, _ := v["protocol"].(string)
	return name == "edgerelay" || handler == "edgerelay" || strings.HasPrefix(handler, "edgerelay_") ||
		name == "transport" && protocol == "uwsgi"
}

// text returns a text without secrets.
func (r *redactor) text(text, name string, in scope) string {
	switch {
	case text == "":
		return text
	case in == scopeOwn && SettingSecrecy(name) == Plain, in == scopeForeign && slices.Contains(foreignSettings, name):
		return r.plain(text, name)
	case in == scopeOwn && SettingSecrecy(name) == Secret, placeholder.MatchString(text), looksSecret(name, text):
		r.collect(text)
		if words := strings.Fields(text); len(words) > 1 { // as in "Bearer …"
			r.collect(words[len(words)-1])
		}
		for _, match := range dsnPassword.FindAllStringSubmatch(text, -1) {
			r.collect(strings.Trim(match[1], "'"))
		}
		r.withoutCredentials(text) // collects those of a URL
		// A text around a placeholder may be known, so that the value alone is the secret.
		for _, p := range placeholder.FindAllString(text, -1) {
			r.collect(p)
		}
	}
	if isPlaceholder.MatchString(text) {
		return text
	}
	r.removed++
	return redacted
}

var (
	// placeholder matches a placeholder of Caddy, and isPlaceholder a text that consists of one.
	placeholder   = regexp.MustCompile(`\{(env|file)\.[^{}]+\}`)
	isPlaceholder = regexp.MustCompile(`^\{(env|file)\.[^{}]+\}$`)
	// dsnPassword matches the password in the connection string of a database.
	dsnPassword = regexp.MustCompile(`(?i)password\s*=\s*('[^']*'|[^\s']+)`)
)

// collect notes a secret, to search for it in other files.
func (r *redactor) collect(secret string) { r.secrets = append(r.secrets, secret) }

// credentials matches the user and the password of a URL, up to the last @ of the word.
var credentials = regexp.MustCompile(`([a-zA-Z][\w+.-]*://)([^\s"@]+(?:@[^\s"/@]+)*)@`)

// urlPath matches a URL up to the end of its host, and its path.
var urlPath = regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*)(://[^\s"/?#]*)(/[^\s"?#]*)`)

// fileSchemes are the schemes of URLs that name a file, or a module in a registry, and no endpoint.
var fileSchemes = []string{"file", "oci", "unix"}

// withoutSecretPaths redacts the segments of paths in URLs that look like secrets: the path of a webhook often is one.
func (r *redactor) withoutSecretPaths(text string) string {
	return urlPath.ReplaceAllStringFunc(text, func(match string) string {
		parts := urlPath.FindStringSubmatch(match)
		if slices.Contains(fileSchemes, strings.ToLower(parts[1])) {
			return match
		}
		return parts[1] + parts[2] + r.path(parts[3])
	})
}

// path returns a path without the segments that look like secrets.
func (r *redactor) path(path string) string {
	// The slashes of a placeholder, which may name a file, do not end a segment.
	path = placeholder.ReplaceAllStringFunc(path, func(p string) string { return strings.ReplaceAll(p, "/", "\x00") })
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i] = r.segment(strings.ReplaceAll(segment, "\x00", "/"))
	}
	return strings.Join(segments, "/")
}

var (
	// matcherChars are the characters of a segment that make it a pattern: a matcher's, a route's or an expression.
	matcherChars = `*{}[]()|?+^$\`
	// segmentWords matches the parts of a pattern that can be a token.
	segmentWords = regexp.MustCompile(`[0-9A-Za-z_~.=%-]+`)
)

// segment returns a segment of a path, redacted if it looks like a secret. Of a pattern, such as T024BE7LD* or a
// regular expression, only the parts that look like one are redacted.
func (r *redactor) segment(segment string) string {
	if isPlaceholder.MatchString(segment) {
		return segment
	}
	if placeholder.MatchString(segment) || !strings.ContainsAny(segment, matcherChars) {
		return r.word(segment)
	}
	return segmentWords.ReplaceAllStringFunc(segment, r.word)
}

// word returns a segment of a path, or a part of one, redacted if it looks like a secret.
func (r *redactor) word(word string) string {
	switch {
	case looksSecret("", strings.ReplaceAll(word, "/", "")): // the slashes are those of a placeholder
		return r.part("", word)
	case looksToken(word):
		if len(word) >= minReplaced { // a shorter one occurs elsewhere by chance
			r.collect(word)
		}
		r.removed++
		return redacted
	}
	return word
}

// plain returns the text of a plain setting without credentials in URLs, and without the parts of paths that look like
// tokens.
func (r *redactor) plain(text, name string) string {
	if strings.Contains(text, "://") {
		return r.withoutCredentials(text)
	}
	if slices.Contains(fileSettings, name) || strings.HasPrefix(text, "unix/") {
		return text
	}
	if _, err := netip.ParsePrefix(text); err == nil {
		return text
	}
	if !strings.Contains(text, "/") && !slices.Contains(pathSettings, name) {
		return text
	}
	path, query, hasQuery := strings.Cut(text, "?")
	if !hasQuery || !strings.HasPrefix(text, "/") { // a question mark of a regular expression
		return r.path(text)
	}
	return r.path(path) + "?" + r.query(query)
}

// withoutCredentials removes user, password, secret parts of the path and the values of parameters from the URLs in a
// text.
func (r *redactor) withoutCredentials(text string) string {
	text = credentials.ReplaceAllStringFunc(text, func(match string) string {
		parts := credentials.FindStringSubmatch(match)
		user, password, hasPassword := strings.Cut(parts[2], ":")
		if !hasPassword {
			return parts[1] + r.part("password", user) + "@" // a token
		}
		return parts[1] + r.part("user", user) + ":" + r.part("password", password) + "@"
	})
	text = r.withoutSecretPaths(text)
	before, query, found := strings.Cut(text, "?")
	if !found || !strings.Contains(before, "://") {
		return text
	}
	return before + "?" + r.query(query)
}

// query returns the query of a URL, and its fragment, without values.
func (r *redactor) query(query string) string {
	query, fragment, _ := strings.Cut(query, "#")
	var pairs []string
	for pair := range strings.SplitSeq(query, "&") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			pair = name + "=" + r.part(name, value)
		}
		pairs = append(pairs, pair)
	}
	text := strings.Join(pairs, "&")
	if fragment != "" {
		text += "#" + r.part("fragment", fragment)
	}
	return text
}

// part redacts a part of a URL, unless it is empty or a placeholder. It collects the part if name or text look like a
// secret: the database of redis://…?db=0 is in every file.
func (r *redactor) part(name, text string) string {
	if text == "" {
		return ""
	}
	if looksSecret(name, text) || placeholder.MatchString(text) {
		if decoded, err := url.PathUnescape(text); err == nil && decoded != text {
			r.collect(decoded)
		}
		r.collect(text)
	}
	if isPlaceholder.MatchString(text) {
		return text
	}
	r.removed++
	return redacted
}

// secretNames are parts of names of settings with secrets.
var secretNames = regexp.MustCompile(`(?i)pass|secret|token|key|auth|cred|cookie|salt|private`)

// minSecretText is the length from which a text with digits and without spaces counts as a secret.
const minSecretText = 16

// shortToken matches a segment of a path that is made of letters and digits like a token.
var shortToken = regexp.MustCompile(`^[0-9A-Za-z]{6,}$`)

// looksToken reports whether a segment of a path may be a short token, such as T024BE7LD: it mixes letters and digits.
// Names of resources seldom do; redacting one of them costs nothing.
func looksToken(segment string) bool {
	return shortToken.MatchString(segment) && strings.ContainsFunc(segment, unicode.IsDigit) &&
		strings.ContainsFunc(segment, unicode.IsLetter)
}

// looksSecret reports whether a text of unknown meaning is probably a secret: such a text is searched in other files.
// Every text of unknown meaning is redacted; searching for each would leave out most files, because of words such as
// "ok".
func looksSecret(name, text string) bool {
	if secretNames.MatchString(name) {
		return true
	}
	return len(text) >= minSecretText && strings.ContainsFunc(text, unicode.IsDigit) && !strings.ContainsAny(text, " /")
}
