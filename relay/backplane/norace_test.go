//go:build !race

package backplane_test

// meshNodes is how many nodes TestFullMesh has.
const meshNodes = 50
