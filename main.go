// Command scoria is block storage volumes as a service: API node, volume node, export server and the command line.
package main

import (
	"os"

	"github.com/scoria-storage/scoria/internal/cli"
)

func main() {
	if os.Getenv("GOGC") == "" {
		paceCollector()
	}
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
