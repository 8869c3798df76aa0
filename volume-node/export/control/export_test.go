package control

import (
	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/ctl"
)

// Running says whether a server holds the state directory, and which process it is.
func Running(p ctl.Paths) (int, bool) {
	ok, pid := (&Client{}).running(p)
	return pid, ok
}

// Sever drops the connection of a hold, as the death of its process does.
func Sever(h export.Hold) { h.(*hold).cancel() }
