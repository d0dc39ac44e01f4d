//go:build race

package backplane_test

// meshNodes is how many nodes TestFullMesh has: under the race detector, which multiplies what they cost, not all.
const meshNodes = 16
