package channels

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Pattern is the path of a route. A segment may have wildcards, as in /ws/chat-*/, and parameters: {id} matches any
// text within the segment, {id:[0-9]+} what the regular expression matches. "*" as the last segment matches any rest. A
// pattern matches with and without a slash at the end, and, like Caddy's path matcher, in upper and lower case.
type Pattern struct {
	source   string
	segments []segment
	rest     bool // the last segment is "*"
	params   []string
}

// segment is a part of a path between slashes.
type segment struct {
	source  string
	literal string
	glob    bool           // literal has wildcards, in lower case
	param   bool           // the whole segment is a parameter
	expr    *regexp.Regexp // with parameters as groups
}

var paramName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// wholeParam matches parameters whose expressions have no braces.
var wholeParam = regexp.MustCompile(`\{[^{}]*\}`)

// HasQuery reports whether a path ends in a query, such as ?a=b: it then matches no request. A "?" alone is a wildcard.
func HasQuery(path string) bool {
	_, query, ok := strings.Cut(path, "?")
	return ok && strings.Contains(query, "=")
}

// ParsePattern reads a pattern.
func ParsePattern(source string) (*Pattern, error) {
	p := &Pattern{source: source}
	if !strings.HasPrefix(source, "/") {
		return nil, fmt.Errorf("path %q must begin with /; write a path such as /ws/chat/{room}/", source)
	}
	if HasQuery(wholeParam.ReplaceAllString(source, "")) {
		return nil, fmt.Errorf("path %q has a query; write the path alone, and {http.request.uri.query.<name>} for a value", source)
	}
	parts := strings.Split(strings.TrimSuffix(source[1:], "/"), "/")
	for i, part := range parts {
		if part == "*" && i == len(parts)-1 && !strings.HasSuffix(source, "/") {
			p.rest = true
			break
		}
		s, err := p.parseSegment(part)
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", source, err)
		}
		s.source = part
		p.segments = append(p.segments, s)
	}
	return p, nil
}

// parseSegment reads a segment and adds its parameters.
func (p *Pattern) parseSegment(part string) (segment, error) {
	if !strings.ContainsAny(part, "{}") {
		if _, err := path.Match(part, ""); err != nil {
			return segment{}, errors.New("a segment is malformed; close its brackets")
		}
		if strings.ContainsAny(part, `*?[\`) {
			return segment{literal: strings.ToLower(part), glob: true}, nil
		}
		return segment{literal: part}, nil
	}
	expr := strings.Builder{}
	expr.WriteString("^(?:")
	whole := false
	for rest := part; rest != ""; {
		text, after, open := strings.Cut(rest, "{")
		if strings.Contains(text, "}") {
			return segment{}, errors.New("a brace } is not opened")
		}
		for i, literal := range strings.Split(text, "*") {
			if i > 0 {
				expr.WriteString("[^/]*")
			}
			expr.WriteString("(?i:" + regexp.QuoteMeta(literal) + ")")
		}
		if !open {
			break
		}
		end := closingBrace(after)
		if end < 0 {
			return segment{}, errors.New("a brace { is not closed")
		}
		name, pattern, constrained := strings.Cut(after[:end], ":")
		if err := p.addParam(name); err != nil {
			return segment{}, err
		}
		if !constrained {
			pattern = "[^/]+"
		}
		if _, err := regexp.Compile(pattern); err != nil {
			return segment{}, fmt.Errorf("parameter %s: %w", name, err)
		}
		expr.WriteString("(?P<param>" + pattern + ")")
		whole = !constrained && text == "" && len(after) == end+1 && rest == part
		rest = after[end+1:]
	}
	expr.WriteString(")$")
	if whole {
		return segment{param: true}, nil
	}
	compiled, err := regexp.Compile(numberParams(expr.String()))
	return segment{expr: compiled}, err
}

// numberParams gives the groups of parameters distinct names, as package regexp demands.
func numberParams(expr string) string {
	parts := strings.Split(expr, "(?P<param>")
	for i := 1; i < len(parts); i++ {
		parts[i] = fmt.Sprintf("(?P<param%d>", i) + parts[i]
	}
	return strings.Join(parts, "")
}

// closingBrace returns the index of the brace that closes a parameter, whose expression may have braces of its own.
func closingBrace(s string) int {
	depth := 1
	for i := range len(s) {
		switch s[i] {
		case '\\':
			continue
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func (p *Pattern) addParam(name string) error {
	switch {
	case !paramName.MatchString(name):
		return fmt.Errorf("%q is no name of a parameter; use letters, digits and _, and none of Caddy's own shorthands "+
			"such as {path} or {host}", name)
	case name == "user":
		return errors.New("{user} is the authenticated user; give the parameter another name")
	case slices.Contains(p.params, name):
		return fmt.Errorf("the parameter %s stands twice; rename one", name)
	}
	p.params = append(p.params, name)
	return nil
}

// String returns the pattern as it was written.
func (p *Pattern) String() string { return p.source }

// Params returns the names of the parameters in their order.
func (p *Pattern) Params() []string { return p.params }

// Match reports whether a cleaned path matches, and returns the values of the parameters.
func (p *Pattern) Match(requested string) (values []string, ok bool) {
	rest, ok := strings.CutPrefix(requested, "/")
	if !ok {
		return nil, false
	}
	if !p.rest {
		rest = strings.TrimSuffix(rest, "/")
	}
	for i := range p.segments {
		part, after, more := strings.Cut(rest, "/")
		last := i == len(p.segments)-1
		if more == (last && !p.rest) {
			return nil, false
		}
		if values, ok = p.segments[i].match(part, values); !ok {
			return nil, false
		}
		rest = after
	}
	return values, true
}

// Covers reports whether the pattern matches every path that another one matches. It may report false although it does.
func (p *Pattern) Covers(other *Pattern) bool {
	n := len(p.segments)
	switch {
	case p.rest && (len(other.segments) < n || len(other.segments) == n && !other.rest && n > 0):
		return false // /a/* does not match /a
	case !p.rest && (other.rest || len(other.segments) != n):
		return false
	}
	for i := range p.segments {
		if !p.segments[i].covers(&other.segments[i]) {
			return false
		}
	}
	return true
}

// covers reports whether the segment matches every text that another one matches.
func (s *segment) covers(other *segment) bool {
	switch {
	case s.source == other.source:
		return true
	case s.expr != nil && strings.ToLower(other.literal) != strings.ToUpper(other.literal):
		return false // literals match in any case of their letters, a constraint does not
	case !other.glob && !other.param && other.expr == nil:
		_, ok := s.match(other.literal, nil)
		return ok
	}
	return s.param || s.glob && s.literal == "*"
}

// match appends the values of the segment's parameters to values.
func (s *segment) match(part string, values []string) ([]string, bool) {
	switch {
	case s.param:
		return append(values, part), part != ""
	case s.glob:
		ok, err := path.Match(s.literal, strings.ToLower(part))
		return values, ok && err == nil
	case s.expr == nil:
		return values, strings.EqualFold(s.literal, part)
	}
	found := s.expr.FindStringSubmatch(part)
	if found == nil {
		return values, false
	}
	for i, n := range s.expr.SubexpNames() {
		if strings.HasPrefix(n, "param") {
			values = append(values, found[i])
		}
	}
	return values, true
}
