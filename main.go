// Command scoria is block storage volumes as a service: API node, volume node, export server and the command line.
package main

import (
	"os"
	"runtime/debug"

	"github.com/scoria-storage/scoria/internal/cli"
)

// gcPercent: the live heap of a node is some ten MiB, and with Go's 100 it would be collected many times a second under load. GOGC goes before it.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
