package browser

import (
	"os"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }
