package process

import (
	"os/exec"
	"testing"
)

// Install is the remedy for a missing program or Python package.
const Install = "apt-get install --yes redis-server daphne python3-channels-redis python3-aiohttp python3-jwt " +
	"nginx-light uwsgi-core uwsgi-plugin-python3"

// Program returns the path of an installed program. For a missing program it ends the test with the install command.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed (%v); mend it with: %s", name, err, Install)
	}
	return path
}
