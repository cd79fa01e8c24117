package postgres

import "syscall"

// userTimeout has the kernel give up a connection whose data was not
// acknowledged for ten seconds, instead of a quarter of an hour.
func userTimeout(network, _ string, c syscall.RawConn) error {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil
	}
	const tcpUserTimeout = 0x12 // TCP_USER_TIMEOUT, in milliseconds
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, 10_000)
	})
	if err != nil {
		return err
	}
	return failed
}
