package crash

import (
	"math/rand/v2"
	"testing"

	"taskcluster/internal/testenv"
)

// TestKilledUnderLoad: a process that is killed with SIGKILL while clients
// create, claim and resolve loses no acknowledged call, lets no task run twice
// at once, and publishes an event for every change, in order.
func TestKilledUnderLoad(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		rounds(t, *kills, func(t *testing.T, trials int) { killed(t, deploy(t, binary, ""), trials) })
	})
	t.Run("postgres", func(t *testing.T) {
		rounds(t, *kills, func(t *testing.T, trials int) { killed(t, deploy(t, binary, testenv.Postgres(t).URL), trials) })
	})
}

func killed(t *testing.T, d *deployment, trials int) {
	for range trials {
		d.busy(100 + rand.IntN(200))
		d.kill(0)
		d.load.SetNodes()
		d.start(0)
		d.load.SetNodes(d.up()...)
		d.verify(0)
	}
	d.busy(200)
	d.finish()
}
