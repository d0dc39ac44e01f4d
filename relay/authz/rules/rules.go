// Package rules decides by patterns which groups a user may see, for authorizers without an authority that knows each
// group.
//
// [Parse] reads rules such as "orders-{user}" once. [Rules.Expand] fills in a user's values, and [Patterns.Match]
// decides about a group.
package rules

import (
	"fmt"
	"strings"
)

// maxPatterns bounds the patterns of one user, which lists of values multiply. Patterns beyond the bound match nothing.
const maxPatterns = 4096

// Rules are the patterns of groups, with placeholders. The zero Rules match no group. Rules are immutable.
type Rules struct{ rules [][]segment }

// segment is a piece of a rule: a text, a placeholder's name, or a star, which stands for any run of characters.
type segment struct {
	kind segmentKind
	text string
}

type segmentKind uint8

const (
	literal segmentKind = iota
	placeholder
	star
)

// Parse reads rules. In a rule, "*" stands for any run of characters, and {name} for a value of the user. An error
// names the rule.
func Parse(texts ...string) (Rules, error) {
	var r Rules
	for _, text := range texts {
		rule, err := parse(text)
		if err != nil {
			return Rules{}, fmt.Errorf("rule %q: %w", text, err)
		}
		r.rules = append(r.rules, rule)
	}
	return r, nil
}

func parse(text string) (rule []segment, err error) {
	if text == "" {
		return nil, fmt.Errorf("the rule is empty; write a group such as orders-{user}, or * for every group")
	}
	for text != "" {
		at := strings.IndexAny(text, "*{}")
		switch {
		case at < 0:
			return append(rule, segment{literal, text}), nil
		case at > 0:
			rule = append(rule, segment{literal, text[:at]})
		}
		if text[at] == '*' {
			rule, text = append(rule, segment{kind: star}), text[at+1:]
			continue
		}
		name, rest, closed := strings.Cut(text[at+1:], "}")
		if text[at] == '}' || !closed || name == "" || strings.ContainsAny(name, "{* ") {
			return nil, fmt.Errorf("the placeholder is malformed; write one such as {user}")
		}
		rule, text = append(rule, segment{placeholder, name}), rest
	}
	return rule, nil
}

// Empty reports whether there are no rules, so that no group matches.
func (r Rules) Empty() bool { return len(r.rules) == 0 }

// Placeholders lists the names of the placeholders, in the order of the rules.
func (r Rules) Placeholders() (names []string) {
	for _, rule := range r.rules {
		for _, s := range rule {
			if s.kind == placeholder {
				names = append(names, s.text)
			}
		}
	}
	return names
}

// Expand returns the patterns of a user. values returns the values of a placeholder: several make several patterns, and
// none, or an empty one, makes none. A star in a value is a literal star.
func (r Rules) Expand(values func(name string) []string) Patterns {
	var all Patterns
	for _, rule := range r.rules {
		patterns := Patterns{{""}}
		for _, s := range rule {
			switch s.kind {
			case literal:
				patterns = patterns.times([]string{s.text}, maxPatterns-len(all))
			case placeholder:
				patterns = patterns.times(values(s.text), maxPatterns-len(all))
			case star:
				for i := range patterns {
					patterns[i] = append(patterns[i], "")
				}
			}
		}
		all = append(all, patterns...)
	}
	return all
}

// times returns the patterns with each of the texts at the end, at most limit of them. Empty texts do not count.
func (p Patterns) times(texts []string, limit int) Patterns {
	var product Patterns
	for _, one := range p {
		for _, text := range texts {
			if text == "" || len(product) >= limit {
				continue
			}
			longer := append(Pattern(nil), one...)
			longer[len(longer)-1] += text
			product = append(product, longer)
		}
	}
	return product
}

// Pattern is the name of a group in pieces, between which there is any run of characters. Only [NewPattern] and
// [Rules.Expand] make patterns; the zero Pattern matches no group.
type Pattern []string

// NewPattern returns the pattern of a text in which "*" stands for any run of characters. The empty text matches no
// group.
func NewPattern(text string) Pattern {
	if text == "" {
		return nil
	}
	return strings.Split(text, "*")
}

// Match reports whether a group matches.
func (p Pattern) Match(group string) bool {
	switch len(p) {
	case 0:
		return false
	case 1:
		return group == p[0]
	}
	group, ok := strings.CutPrefix(group, p[0])
	if !ok {
		return false
	}
	last := len(p) - 1
	for _, piece := range p[1:last] {
		_, rest, found := strings.Cut(group, piece)
		if !found {
			return false
		}
		group = rest
	}
	return strings.HasSuffix(group, p[last])
}

// String returns the pattern with stars. A star within a value looks the same.
func (p Pattern) String() string { return strings.Join(p, "*") }

// Patterns are the groups that a user may see.
type Patterns []Pattern

// NewPatterns returns the patterns of texts, see [NewPattern], at most 4,096 of them.
func NewPatterns(texts []string) Patterns {
	texts = texts[:min(len(texts), maxPatterns)]
	patterns := make(Patterns, 0, len(texts))
	for _, text := range texts {
		if p := NewPattern(text); p != nil {
			patterns = append(patterns, p)
		}
	}
	return patterns
}

// Match reports whether a group matches one of the patterns.
func (p Patterns) Match(group string) bool {
	for _, one := range p {
		if one.Match(group) {
			return true
		}
	}
	return false
}
