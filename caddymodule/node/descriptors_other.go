//go:build !unix

package node

// maxDescriptors returns 0: this system has no limit that matters here.
func maxDescriptors() int { return 0 }

// countDescriptors is unused without a limit.
func countDescriptors(int, int) int { return 0 }
