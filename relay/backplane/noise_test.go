package backplane_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
)

// noise returns event n with a text of size bytes that compression hardly shortens.
func noise(n, size int) string {
	source := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	b := make([]byte, size*3/4)
	_, _ = source.Read(b)
	return fmt.Sprintf(`{"n": %d, "x": %q}`, n, base64.StdEncoding.EncodeToString(b))
}
