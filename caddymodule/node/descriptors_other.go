//go:build !unix

package node

// maxDescriptors is how many files this process may have open; it has no limit worth knowing here.
func maxDescriptors() int { return 0 }

// countDescriptors is not asked where there is no limit.
func countDescriptors(int, int) int { return 0 }
