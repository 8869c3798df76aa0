// Package drivers is the list of all kinds of backend that Scoria has.
package drivers

import (
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
	"github.com/scoria-storage/scoria/volume-node/driver/null"
)

// Registry returns all kinds by name.
func Registry() driver.Registry {
	return driver.Registry{file.Kind: file.Factory(), null.Kind: null.Factory()}
}
