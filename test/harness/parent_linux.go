package harness

import (
	"os/exec"
	"syscall"
)

// endWithParent ends a process with the test's, should that be killed.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
