package settings

import (
	"slices"
	"strings"
)

// maxSimilar is the greatest number of words that an error suggests.
const maxSimilar = 3

// Remedy returns the remedy for a word that is not among known. It asks for the words that are most similar, and then
// gives the remedy for all cases, such as "use red or green":
//
//	did you mean green? Use red or green
func Remedy(word string, known []string, remedy string) string {
	similar := similarWords(word, known)
	if len(similar) == 0 || slices.Contains(known, word) { // a known word may have the wrong arguments
		return remedy
	}
	return "did you mean " + enumerate(similar, "or") + "? " + strings.ToUpper(remedy[:1]) + remedy[1:]
}

// similarWords returns the known words that are a typing error away from word. If there is none, it returns the words
// that continue it, as "conn" and "connections", or that it ends, as "timeout" and "state_timeout".
func similarWords(word string, known []string) (similar []string) {
	word = strings.ToLower(word)
	closest := min(len(word)/3, 2) // one error in three letters, two in six
	for _, k := range known {
		switch n := distance(word, k); {
		case n > closest || len(word) < 3:
		case n < closest:
			similar, closest = []string{k}, n
		default:
			similar = append(similar, k)
		}
	}
	if len(similar) > 0 || len(word) < 3 {
		return similar[:min(len(similar), maxSimilar)]
	}
	for _, k := range known {
		if strings.HasPrefix(k, word) || strings.HasSuffix(k, "_"+word) {
			similar = append(similar, k)
		}
	}
	return similar[:min(len(similar), maxSimilar)]
}

// distance counts the letters that were typed wrongly, left out, added or exchanged with their neighbor.
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := slices.Clone(row)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(above[j]+cost, above[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before = above
	}
	return row[len(b)]
}
