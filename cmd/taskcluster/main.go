// Command taskcluster is the whole of Taskcluster in one program: the services,
// the worker and the command line. See the package internal/cli.
package main

import (
	"os"

	"taskcluster/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}
