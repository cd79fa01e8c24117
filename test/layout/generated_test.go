package layout

import (
	"os/exec"
	"testing"

	"taskcluster/internal/testenv"
)

// TestClientIsUpToDate: the client in the repository is what this program's own
// references give.
func TestClientIsUpToDate(t *testing.T) {
	cmd := exec.Command("scripts/generate-client", "-check")
	cmd.Dir = testenv.Root(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
