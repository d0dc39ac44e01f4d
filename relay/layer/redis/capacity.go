package redis

import (
	"fmt"
	"regexp"
	"strings"
)

// ChannelCapacity is an entry of channels_redis's channel_capacity.
type ChannelCapacity struct {
	// Pattern is a glob over the whole channel name (*, ?, [abc], [!abc]) or, with Regexp, a regular expression that
	// matches from the beginning.
	Pattern  string
	Regexp   bool
	Capacity int
}

// capacityOf is a ChannelCapacity ready for use.
type capacityOf struct {
	match    *regexp.Regexp
	capacity int
}

func compileCapacities(list []ChannelCapacity) ([]capacityOf, error) {
	var compiled []capacityOf
	for _, c := range list {
		if c.Capacity <= 0 {
			return nil, fmt.Errorf("channel_capacity %s must be above 0", c.Pattern)
		}
		expression := globExpression(c.Pattern)
		if c.Regexp {
			expression = `\A(?:` + c.Pattern + `)`
		}
		match, err := regexp.Compile(expression)
		if err != nil {
			return nil, fmt.Errorf("channel_capacity %s: %w", c.Pattern, err)
		}
		compiled = append(compiled, capacityOf{match, c.Capacity})
	}
	return compiled, nil
}

// capacity returns how many messages the mailbox of a channel may hold.
func (s *inForce) capacity(channel string) int {
	for _, c := range s.capacities {
		if c.match.MatchString(channel) {
			return c.capacity
		}
	}
	return s.Capacity
}

// globExpression returns the regular expression of a glob, as Python's fnmatch reads it.
func globExpression(glob string) string {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(glob); i++ {
		switch glob[i] {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		case '[':
			set, length := globSet(glob[i:])
			b.WriteString(set)
			i += length - 1
		default:
			b.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		}
	}
	b.WriteString(`\z`)
	return b.String()
}

// globSet returns the character class of the set at the beginning of glob, and the length of the set in glob. A
// bracket that is
// never closed stands for itself.
func globSet(glob string) (set string, length int) {
	from := 1
	if strings.HasPrefix(glob[from:], "!") {
		from++
	}
	to := from
	if strings.HasPrefix(glob[to:], "]") { // The first character is a member.
		to++
	}
	end := strings.IndexByte(glob[to:], ']')
	if end < 0 {
		return `\[`, 1
	}
	end += to
	members := strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(glob[from:end])
	if from == 2 {
		members = "^" + members
	}
	return "[" + members + "]", end + 1
}
