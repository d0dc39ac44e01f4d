package admin

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
)

// logLines is the response to GET /edgerelay/logs.
type logLines struct {
	// Lines are the last lines of the relay's own log, oldest first.
	Lines []json.RawMessage `json:"lines"`
}

func serveLogs(n *node.Node, w http.ResponseWriter, _ *http.Request) error {
	return WriteJSON(w, logLines{n.LogTail()})
}

// SecretSearch is the body of POST /edgerelay/secrets/find.
type SecretSearch struct {
	// Secrets are values, or placeholders such as {env.REDIS_PASSWORD}, which this process resolves.
	Secrets []string `json:"secrets"`
	// Texts are searched for the values, also in the usual encodings.
	Texts []string `json:"texts"`
}

// SecretsFound is the response to POST /edgerelay/secrets/find.
type SecretsFound struct {
	// Found tells for each text whether it contains a secret.
	Found []bool `json:"found"`
	// Unresolved counts placeholders of files that cannot be read. No text can be searched for their values.
	Unresolved int `json:"unresolved"`
}

// maxSearchBody bounds a search, in bytes.
const maxSearchBody = 64 << 20

// maxSearches is the number of searches that a node makes in a minute. A support bundle needs one.
const maxSearches = 6

// searches counts the searches of a minute.
type searches struct {
	mu    sync.Mutex
	began time.Time
	count int
}

// take counts a search, and reports whether it may pass.
func (s *searches) take(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.began) >= time.Minute {
		s.began, s.count = now, 0
	}
	s.count++
	return s.count <= maxSearches
}

// searchesOf returns the count of a node, which survives reloads.
func searchesOf(n *node.Node) *searches {
	type key struct{}
	return n.Extension(key{}, func() any { return new(searches) }).(*searches)
}

// serveFindSecrets searches texts for the values of secrets, so that a support bundle can leave them out. Values of
// placeholders never leave the process, but a client can guess them. Only a client that may load any configuration
// learns nothing new, so clients of Caddy's remote administration, whose paths can be limited, are refused: they are
// the ones that connect by TLS.
// See docs/decisions/operations.md#why-is-the-search-for-secrets-bounded
func serveFindSecrets(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	if r.TLS != nil {
		return caddy.APIError{HTTPStatus: http.StatusForbidden, Err: errors.New(
			"secrets cannot be searched over remote administration; write the support bundle on the node itself")}
	}
	if !searchesOf(n).take(time.Now()) {
		return caddy.APIError{
			HTTPStatus: http.StatusTooManyRequests, Err: errors.New("too many searches; wait a minute"),
		}
	}
	var s SecretSearch
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSearchBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return badRequest(fmt.Errorf(`invalid body; use {"secrets": ["…"], "texts": ["…"]}: %w`, err))
	}
	return WriteJSON(w, FindSecrets(s))
}

// FindSecrets searches texts for secrets. Placeholders get the values that they have in this process.
func FindSecrets(s SecretSearch) SecretsFound {
	found := SecretsFound{Found: make([]bool, len(s.Texts))}
	replacer := caddy.NewReplacer()
	values := map[string]bool{}
	for _, secret := range s.Secrets {
		value := strings.TrimSpace(replacer.ReplaceKnown(secret, ""))
		if value == "" {
			// An unset variable is no secret. A file that cannot be read now may have held one.
			if strings.Contains(secret, "{file.") {
				found.Unresolved++
			}
			continue
		}
		for _, form := range encodings(value) {
			values[form] = true
		}
	}
	for i, text := range s.Texts {
		for value := range values {
			if containsSecret(text, value) {
				found.Found[i] = true
				break
			}
		}
	}
	return found
}

// encodings returns a value as it is, and as URLs, JSON, HTML, Base64 and hexadecimal digits have it.
func encodings(value string) []string {
	forms := append(quotings(value), url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value),
		hex.EncodeToString([]byte(value)))
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		forms = append(forms, e.EncodeToString([]byte(value)))
	}
	return forms
}

// maxQuoted is the depth of JSON in JSON to which secrets are searched.
const maxQuoted = 4

// quotings returns a value as it is, and as JSON and JSON in JSON have it: with escaped HTML, without, as the log and
// support bundles have it, and with escapes of all characters but those of ASCII.
func quotings(value string) []string {
	forms := []string{value}
	for added, depth := forms, 0; depth < maxQuoted && len(added) > 0; depth++ {
		var next []string
		for _, form := range added {
			for _, escapeHTML := range []bool{true, false} {
				quoted := quoteJSON(form, escapeHTML)
				for _, quoted := range []string{quoted, toASCII(quoted)} {
					if !slices.Contains(forms, quoted) {
						forms, next = append(forms, quoted), append(next, quoted)
					}
				}
			}
		}
		added = next
	}
	return forms
}

// quoteJSON returns a text as a string of JSON has it, without the quotes.
func quoteJSON(text string, escapeHTML bool) string {
	var quoted strings.Builder
	e := json.NewEncoder(&quoted)
	e.SetEscapeHTML(escapeHTML)
	_ = e.Encode(text) // cannot fail
	return strings.TrimSuffix(strings.TrimPrefix(quoted.String(), `"`), "\"\n")
}

// toASCII escapes the characters of a JSON text that are not ASCII.
func toASCII(text string) string {
	var ascii strings.Builder
	for _, c := range text {
		if c < utf8.RuneSelf {
			ascii.WriteRune(c)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, c) {
			fmt.Fprintf(&ascii, `\u%04x`, unit)
		}
	}
	return ascii.String()
}

// shortSecret is the length below which a secret counts only as a whole word: a short one occurs in other words by
// chance.
const shortSecret = 8

// containsSecret reports whether a text contains a value. A short value must not be within a word.
func containsSecret(text, value string) bool {
	for from := 0; ; {
		i := strings.Index(text[from:], value)
		if i < 0 {
			return false
		}
		i += from
		before, _ := utf8.DecodeLastRuneInString(text[:i])
		after, _ := utf8.DecodeRuneInString(text[i+len(value):])
		if len(value) >= shortSecret || !isWord(before) && !isWord(after) {
			return true
		}
		from = i + 1
	}
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }
