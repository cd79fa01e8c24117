//go:build !unix

package worker

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// lockFile is refused: no engine runs here, so that no worker gets this far.
func lockFile(*os.File) error {
	return fmt.Errorf("a lock on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
