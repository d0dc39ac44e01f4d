package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// redactFile returns a file of the bundle without known secrets, and unless it is the configuration, which is searched
// already, without what looks like one. JSON stays JSON: its strings are redacted in their decoded form. A text that is
// no JSON, such as a response that was cut, is redacted as it is, by rules that cover escapes.
func redactFile(content []byte, known *strings.Replacer, isConfig bool) []byte {
	r := &redactor{} // What it collects is in no configuration, so no other file has to be searched for it.
	value := func(text, name string) string {
		if isConfig {
			return known.Replace(text)
		}
		// JSON may be quoted in JSON. A known secret may look like an escape itself.
		return r.member(known.Replace(unescape(known.Replace(text))), name)
	}
	if json.Valid(content) {
		return mapJSON(content, value)
	}
	var out, raw []byte
	flush := func() {
		out = append(out, value(known.Replace(string(raw)), "")...)
		raw = nil
	}
	for line := range bytes.Lines(content) {
		if line[0] != '{' || !json.Valid(line) {
			raw = append(raw, line...)
			continue
		}
		flush()
		out = append(out, mapJSON(line, value)...)
	}
	flush()
	return out
}

// mapJSON returns valid JSON with all strings, names of members and numbers replaced by value, which gets the decoded
// text and the name of the closest member. A number stays unless value changes it. All else, such as spaces, stays.
func mapJSON(text []byte, value func(text, name string) string) []byte {
	type object struct {
		name    string         // of the closest member
		changed map[string]int // names that value has changed, and how often
	}
	stack := []object{{}}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		top := &stack[len(stack)-1]
		end := i + 1
		switch c := text[i]; {
		case c == '{':
			stack = append(stack, object{name: top.name})
		case c == '}':
			stack = stack[:len(stack)-1]
		case c == '-' || c >= '0' && c <= '9':
			for end < len(text) && strings.IndexByte("+-.eE0123456789", text[end]) >= 0 {
				end++
			}
			number := string(text[i:end])
			if changed := value(number, ""); changed != number {
				out, i = appendJSON(out, changed), end
				continue
			}
		case c == '"':
			for text[end] != '"' {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			end++
			var decoded string
			_ = json.Unmarshal(text[i:end], &decoded) // cannot fail: the text is valid
			i = end
			if rest := bytes.TrimLeft(text[end:], " \t\r\n"); len(rest) == 0 || rest[0] != ':' {
				out = appendJSON(out, value(decoded, top.name))
				continue
			}
			top.name = decoded
			name := ""
			if strings.HasPrefix(decoded, "/") { // a path, as in counts by route
				name = "path"
			}
			key := value(decoded, name)
			if key != decoded {
				if top.changed == nil {
					top.changed = map[string]int{}
				}
				top.changed[key]++
				if n := top.changed[key]; n > 1 { // members stay apart
					key = fmt.Sprintf("%s %d", key, n)
				}
			}
			out = appendJSON(out, key)
			continue
		}
		out = append(out, text[i:end]...)
		i = end
	}
	return out
}

// appendJSON appends a string in JSON. It escapes no HTML.
func appendJSON(out []byte, text string) []byte {
	var quoted bytes.Buffer
	writeJSONLine(&quoted, text)
	return append(out, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
}

// escape matches an escaped character of JSON that may hide a character of a secret or of a URL. JSON that is quoted
// several times has several backslashes.
var escape = regexp.MustCompile(`\\+/|(?:\\+u[0-9a-fA-F]{4})+|\\\\`)

// unescape returns a text that is no JSON without the escapes that JSON need not have, however often it is quoted.
// Quotes, backslashes and control characters stay escaped.
func unescape(text string) string {
	return escape.ReplaceAllStringFunc(text, func(match string) string {
		if strings.HasSuffix(match, "/") {
			return "/"
		}
		var out strings.Builder
		for i := 0; i < len(match); {
			size := strings.IndexByte(match[i:], 'u') + 5
			if size < 5 { // an escaped backslash
				return match
			}
			c := codeUnit(match[i : i+size])
			if utf16.IsSurrogate(c) && i+size < len(match) {
				next := strings.IndexByte(match[i+size:], 'u') + 5
				if pair := utf16.DecodeRune(c, codeUnit(match[i+size:i+size+next])); pair != utf8.RuneError {
					c, size = pair, size+next
				}
			}
			if c < ' ' || c == '"' || c == '\\' || utf16.IsSurrogate(c) {
				out.WriteString(match[i : i+size])
			} else {
				out.WriteRune(c)
			}
			i += size
		}
		return out.String()
	})
}

// codeUnit returns the code unit of UTF-16 whose four digits end an escape.
func codeUnit(escape string) rune {
	c, _ := strconv.ParseUint(escape[len(escape)-4:], 16, 16) // never fails: the digits have matched
	return rune(c)
}

const (
	pathNames       = `(?:path|route|uri|url)s?`
	credentialNames = `pass(?:word|wd|phrase)?|pwd|secrets?|tokens?|cookies?|authorization|credentials?|` +
		`api[_-]?keys?|private[_-]?keys?`
)

var (
	// pathMember matches names of members that hold paths or URLs.
	pathMember = regexp.MustCompile(`(?i)` + pathNames + `$`)
	// namedPaths match paths, or patterns of them, in text: quoted, in a list, and bare. The first group stays. A
	// quoted one ends at a quote without a backslash, at a line break or with the text, which may have been cut.
	namedPaths = []*regexp.Regexp{
		regexp.MustCompile(`(?i)(` + pathNames + `\\*["']?\s*[:=]\s*\\*")((?:[^"\\\n]|\\[^\n])*)`),
		regexp.MustCompile(`(?i)(` + pathNames + `\\*["']?\s*[:=]\s*\[)([^\]]*)`),
		regexp.MustCompile(`(?i)(` + pathNames + `\s*[:=]\s*)(/[^\s"]*)`),
	}
	// credentialMember matches names of members and of headers that hold nothing but a secret.
	credentialMember = regexp.MustCompile(`(?i)(?:^|[_-])(?:` + credentialNames + `)$`)
	// namedCredentials match secrets in text, by their names: quoted, behind an equals sign, as a header, and with the
	// scheme of HTTP's authentication. The first group stays.
	namedCredentials = []*regexp.Regexp{
		regexp.MustCompile(`(?i)((?:` + credentialNames + `)\\*["']\s*[:=]\s*\\*["'])((?:[^"'\\\n]|\\[^"'\n])+)`),
		regexp.MustCompile(`(?i)((?:` + credentialNames + `)\s*=\s*\\*["']?)([^\s"'\\&;,}]+)`),
		regexp.MustCompile(`(?i)((?:cookie|authorization|[a-z-]+-token):[ \t]+)([^"'\\\n]+)`),
		regexp.MustCompile(`(\b(?:Bearer|Basic)[ \t]+)([0-9A-Za-z._~+/=-]{6,})`),
	}
	// anyURL matches a URL in text. A quoted one may have spaces. An escaped quote does not end it, nor does one in its
	// user or password.
	anyURL = regexp.MustCompile(`(?i)"[a-z][a-z0-9+.-]*://(?:[^"\\\n]|\\[^\n])*|` +
		`[a-z][a-z0-9+.-]*://(?:[^\s/?#]*@)?(?:[^\s"\\]|\\\S)*`)
	// urlStart matches the scheme of a URL.
	urlStart = regexp.MustCompile(`(?i)^[a-z][a-z0-9+.-]*://`)
	// hexEscape matches an escape that hides a character.
	hexEscape = regexp.MustCompile(`\\[uUx][0-9a-fA-F]{2}`)
	// pathWords and pathRuns match parts of a segment that can be a token. The letter of an escape, as in \nretry2, is
	// no part of it.
	pathWords = regexp.MustCompile(`(?:\\[bfnrtv])?[0-9A-Za-z_~.=%-]+`)
	pathRuns  = regexp.MustCompile(`(?:\\[bfnrtv])?[0-9A-Za-z]+`)
	// queryPart matches a pair of a query, or a part of one without a value.
	queryPart = regexp.MustCompile(`[^&#?=]*=[^&#]*|[^&#?]+`)
)

// member returns a decoded string of JSON, the member of the given name, without what looks like a secret.
func (r *redactor) member(text, name string) string {
	switch {
	case urlStart.MatchString(text):
		text = r.url(text)
	case pathMember.MatchString(name):
		text = r.target(text)
	case text != "" && credentialMember.MatchString(name):
		return redacted
	}
	for _, named := range namedCredentials {
		text = named.ReplaceAllString(text, "${1}"+redacted)
	}
	for _, named := range namedPaths {
		text = named.ReplaceAllStringFunc(text, func(match string) string {
			parts := named.FindStringSubmatch(match)
			if urlStart.MatchString(parts[2]) {
				return parts[1] + r.url(parts[2])
			}
			return parts[1] + r.target(parts[2])
		})
	}
	return anyURL.ReplaceAllStringFunc(text, r.url)
}

// url returns a URL without user, password, values of parameters and parts of the path that look like tokens. A quote
// may be before it.
func (r *redactor) url(text string) string {
	scheme, rest, _ := strings.Cut(text, "://")
	namesFile := slices.Contains(fileSchemes, strings.ToLower(strings.TrimPrefix(scheme, `"`)))
	end := authorityEnd(rest)
	at := strings.LastIndex(rest[:end], "@")
	if !namesFile && strings.ContainsAny(rest[:end], ":@") { // a user may have an @, and a password a slash
		at = strings.LastIndex(rest, "@")
	}
	start := scheme + "://"
	if at >= 0 {
		user, password, hasPassword := strings.Cut(rest[:at], ":")
		start += r.part("user", user)
		if hasPassword {
			start += ":" + r.part("password", password)
		}
		start += "@"
		rest = rest[at+1:]
		end = authorityEnd(rest)
	}
	if namesFile {
		if stop := strings.IndexAny(rest[end:], "?#\"\\ "); stop >= 0 {
			end += stop
		} else {
			end = len(rest)
		}
	}
	return start + rest[:end] + r.target(rest[end:])
}

// authorityEnd returns the end of the user and the host in a URL without its scheme.
func authorityEnd(rest string) int {
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		return end
	}
	return len(rest)
}

// target returns a path with its query, or a pattern of one, without values of parameters and parts that look like
// tokens.
func (r *redactor) target(text string) string {
	path, query := text, ""
	if i := strings.IndexAny(text, "?#"); i >= 0 {
		path, query = text[:i], text[i:]
	}
	return r.pathParts(path) + queryPart.ReplaceAllStringFunc(query, func(part string) string {
		if name, value, ok := strings.Cut(part, "="); ok {
			return r.pathParts(name) + "=" + r.part(name, value)
		}
		return r.pathParts(part)
	})
}

// pathParts returns a path without the parts that look like tokens. Unlike [redactor.path], it looks within segments,
// since text surrounds a path in the log.
func (r *redactor) pathParts(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		switch {
		case isPlaceholder.MatchString(segment):
		case hexEscape.MatchString(segment), !strings.ContainsAny(segment, `*{}[]()|?^\`) && looksSecret("", segment):
			segments[i] = redacted
		default:
			segments[i] = pathWords.ReplaceAllStringFunc(segment, func(word string) string {
				if out := withoutToken(word, func(text string) bool { return looksSecret("", text) }); out != word {
					return out
				}
				return pathRuns.ReplaceAllStringFunc(word, func(run string) string {
					return withoutToken(run, looksToken)
				})
			})
		}
	}
	return strings.Join(segments, "/")
}

// withoutToken returns a word, redacted if it is a token. The letter of an escape before it may be a part of it.
func withoutToken(word string, isToken func(string) bool) string {
	if escaped, ok := strings.CutPrefix(word, `\`); ok {
		if isToken(escaped) || isToken(escaped[1:]) {
			return word[:2] + redacted
		}
		return word
	}
	if isToken(word) {
		return redacted
	}
	return word
}
