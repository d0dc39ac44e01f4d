package redis

import (
	"fmt"
	"hash/crc32"
	"path"
	"slices"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
)

// patterns are those of the groups that have a history on a node.
type patterns struct {
	list []string
	sums []string // fingerprints of list
	// value is the content of beats: the fingerprints, separated by commas.
	value string
}

func newPatterns(p relay.HistoryPolicy) *patterns {
	s := &patterns{}
	for _, r := range p.Rules {
		s.list = append(s.list, r.Pattern)
		s.sums = append(s.sums, fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(r.Pattern))))
	}
	s.value = strings.Join(s.sums, ",")
	return s
}

// sharedWith reports whether a node with the patterns of a beat keeps the history of a group certainly: the node has a
// pattern of this one that matches.
func (s *patterns) sharedWith(beat, group string) bool {
	if beat == "" {
		return false
	}
	theirs := strings.Split(beat, ",")
	for i, pattern := range s.list {
		if ok, err := path.Match(pattern, group); ok && err == nil && slices.Contains(theirs, s.sums[i]) {
			return true
		}
	}
	return false
}
