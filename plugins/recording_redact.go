package plugins

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/edgerelay/edgerelay/plugins/internal/loosejson"
)

// credentials are the names of headers, query parameters and members whose values are secrets.
var credentials = []string{
	"access_token", "api_key", "apikey", "authorization", "cookie", "csrftoken", "id_token", "jwt", "password", "passwd",
	"proxy-authorization", "refresh_token", "secret", "session", "sessionid", "signature", "ticket", "token",
	"x-api-key", "x-auth-token", "x-csrf-token", "x-xsrf-token",
}

const (
	// minSecretText is the length from which a secret is replaced wherever it occurs in its client's lines.
	minSecretText = 8
	// minTokenProtocol is the length from which a subprotocol counts as a credential.
	minTokenProtocol = 32
)

// redactor replaces credentials in the requests of on_connect. The same value has the same replacement in a recording,
// and another one in the next, so that a function may still compare values.
type redactor struct {
	names []string // lower case
	key   []byte
	off   bool // of the credentials that the request has by default
}

func newRedactor(more []string, keep bool) *redactor {
	r := &redactor{key: make([]byte, sha256.Size), off: keep}
	_, _ = rand.Read(r.key) // never fails
	if !keep {
		r.names = slices.Clone(credentials)
	}
	for _, name := range more {
		r.names = append(r.names, strings.ToLower(name))
	}
	return r
}

// secretTexts are the replaced texts of a client.
type secretTexts struct {
	replacements map[string]string // by secret
	replacer     *strings.Replacer // set by seal; nil without secrets
}

func (s *secretTexts) empty() bool { return s == nil || s.replacer == nil }

// seal ends the collection. The longest secrets come first: a secret may begin another one.
func (s *secretTexts) seal() {
	if len(s.replacements) == 0 {
		return
	}
	var pairs []string
	for _, secret := range slices.SortedFunc(maps.Keys(s.replacements), func(a, b string) int {
		return cmp.Or(len(b)-len(a), strings.Compare(a, b))
	}) {
		pairs = append(pairs, secret, s.replacements[secret])
	}
	s.replacer = strings.NewReplacer(pairs...)
}

// replace returns a text without the secrets, also where the function has written them elsewhere.
func (s *secretTexts) replace(text string) string {
	if s.empty() {
		return text
	}
	return s.replacer.Replace(text)
}

// add notes a secret, as it is, as a JSON string and as a part of a URL have it.
func (s *secretTexts) add(secret, replacement string) {
	if len(secret) < minSecretText {
		return
	}
	if s.replacements == nil {
		s.replacements = map[string]string{}
	}
	for _, text := range append(spellings(secret), url.QueryEscape(secret), url.PathEscape(secret)) {
		s.replacements[text] = replacement
	}
}

// replaceInSample changes all texts of the sample of a function's hook.
func replaceInSample(s *Sample, f func(string) string) {
	function := s.Function
	for _, text := range []*string{
		s.Text, function.Attachment, function.WantAttachment, &s.Reason, &function.Then, &function.Context, &function.Name,
	} {
		if text != nil {
			*text = f(*text)
		}
	}
	for _, b := range []*[]byte{
		&function.Binary, &function.ContextBinary, &function.AttachmentBinary, &function.WantAttachmentBinary,
	} {
		if *b != nil {
			*b = []byte(f(string(*b)))
		}
	}
	s.Payload = replaceTexts(s.Payload, f)
	function.Request = replaceTexts(function.Request, f)
	for i, e := range function.Effects {
		function.Effects[i] = replaceInEffect(e, f)
	}
}

// replaceInEffect changes the texts of an effect, and binary data in base64.
func replaceInEffect(effect []byte, f func(string) string) []byte {
	return mapMembers(effect, func(name string, v []byte) []byte {
		if name != effectSendBinary {
			return replaceTexts(v, f)
		}
		return mapText(v, func(text string) string {
			data, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return text
			}
			return base64.StdEncoding.EncodeToString([]byte(f(string(data))))
		})
	})
}

// replaceTexts changes the texts in a JSON value.
func replaceTexts(value []byte, f func(string) string) []byte {
	if len(value) == 0 {
		return value
	}
	switch value[0] {
	case '{', '[':
		return mapMembers(value, func(_ string, v []byte) []byte { return replaceTexts(v, f) })
	case '"':
		return mapText(value, f)
	}
	return value
}

// redaction is the redaction of a request.
type redaction struct {
	*redactor
	secrets *secretTexts
}

// request returns the request of on_connect without secrets, and the secrets for later lines. A request that is no
// object is left out.
func (r *redactor) request(request []byte) ([]byte, *secretTexts) {
	d := redaction{r, &secretTexts{}}
	members, ok := loosejson.Members(request)
	if !ok {
		return nil, nil
	}
	var l sampleLine
	for _, m := range members {
		value := m.Value
		switch {
		case r.named(m.Name):
			value = d.hide(m.Name, value)
		case m.Name == "query":
			value = mapText(value, d.query)
		case m.Name == "subprotocols" && !r.off:
			value = d.protocols(value)
		default:
			value = d.members(value)
		}
		l.raw(m.Name, value)
	}
	out := append(append([]byte{'{'}, l...), '}')
	d.secrets.seal()
	return out, d.secrets
}

func (r *redactor) named(name string) bool { return slices.Contains(r.names, strings.ToLower(name)) }

// members redacts the members with a name of the list, at any depth.
func (d *redaction) members(value []byte) []byte {
	return mapMembers(value, func(name string, v []byte) []byte {
		if d.named(name) {
			return d.hide(name, v)
		}
		return d.members(v)
	})
}

// hide replaces all texts and numbers in a value. The elements of a list are values of the name, as those of a header
// are.
func (d *redaction) hide(name string, value []byte) []byte {
	switch value[0] {
	case '{', '[':
		return mapMembers(value, func(inner string, v []byte) []byte { return d.hide(cmp.Or(inner, name), v) })
	case '"':
		return mapText(value, func(text string) string { return d.credential(name, text) })
	case 't', 'f', 'n': // true, false and null
		return value
	}
	return d.number(string(value))
}

// number returns the replacement of a number, which is a number, too.
func (d *redaction) number(secret string) []byte {
	replacement := strconv.AppendUint(nil, uint64(binary.BigEndian.Uint32(d.mac(secret))), 10)
	d.secrets.add(secret, string(replacement))
	return replacement
}

// credential replaces the secret part of a value: a cookie keeps its name, and an authorization its scheme.
func (d *redaction) credential(name, text string) string {
	switch strings.ToLower(name) {
	case "cookie":
		parts := strings.Split(text, ";")
		for i, part := range parts {
			name, value, named := strings.Cut(part, "=")
			if named {
				value = strings.TrimSpace(value)
				parts[i] = name + "=" + d.text(value)
				d.secrets.add(strings.Trim(value, `"`), d.text(value))
			} else {
				parts[i] = d.text(strings.TrimSpace(part))
			}
		}
		return strings.Join(parts, ";")
	case "authorization", "proxy-authorization":
		if scheme, value, ok := strings.Cut(text, " "); ok {
			value = strings.TrimSpace(value)
			d.basic(scheme, value)
			return scheme + " " + d.text(value)
		}
	}
	return d.text(text)
}

// basic notes the password that Basic authentication encodes, alone and behind the user.
func (d *redaction) basic(scheme, value string) {
	decoded, err := base64.StdEncoding.DecodeString(value)
	if !strings.EqualFold(scheme, "Basic") || err != nil {
		return
	}
	if _, password, ok := strings.Cut(string(decoded), ":"); ok {
		d.secrets.add(string(decoded), d.text(value))
		d.secrets.add(password, d.text(value))
	}
}

// text returns the replacement of a secret.
func (d *redaction) text(secret string) string {
	if secret == "" {
		return ""
	}
	replacement := "redacted-" + hex.EncodeToString(d.mac(secret)[:6])
	d.secrets.add(secret, replacement)
	return replacement
}

// mac returns the hash of a secret from which its replacement is made.
func (d *redaction) mac(secret string) []byte {
	mac := hmac.New(sha256.New, d.key)
	mac.Write([]byte(secret))
	return mac.Sum(nil)
}

// query replaces the values of parameters.
func (d *redaction) query(query string) string {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		escaped, value, ok := strings.Cut(part, "=")
		name, err := url.QueryUnescape(escaped)
		if !ok || err != nil || !d.named(name) {
			continue
		}
		replacement := d.text(value)
		if plain, err := url.QueryUnescape(value); err == nil && plain != value {
			d.secrets.add(plain, replacement)
		}
		parts[i] = escaped + "=" + replacement
	}
	return strings.Join(parts, "&")
}

// protocols replaces subprotocols that are as long as a token.
func (d *redaction) protocols(value []byte) []byte {
	return mapMembers(value, func(_ string, v []byte) []byte {
		return mapText(v, func(text string) string {
			if len(text) < minTokenProtocol {
				return text
			}
			return d.text(text)
		})
	})
}

// mapText changes a JSON text.
func mapText(value []byte, f func(string) string) []byte {
	var text string
	if json.Unmarshal(value, &text) != nil {
		return value
	}
	changed := f(text)
	if changed == text {
		return value
	}
	return appendJSON(nil, changed)
}

// mapMembers changes the members of an object, or the elements of an array. Any other value stays as it is.
func mapMembers(value []byte, f func(name string, v []byte) []byte) []byte {
	if members, ok := loosejson.Members(value); ok {
		var l sampleLine
		for _, m := range members {
			l.raw(m.Name, f(m.Name, m.Value))
		}
		return append(append([]byte{'{'}, l...), '}')
	}
	if list, ok := loosejson.Elements(value); ok {
		out := []byte{'['}
		for i, v := range list {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, f("", v)...)
		}
		return append(out, ']')
	}
	return value
}
