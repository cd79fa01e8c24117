package queue

import (
	"os"
	"testing"

	"taskcluster/internal/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m, "")) }
