// Package drivers is the list of all kinds of backend that Scoria has.
package drivers

import (
	"context"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/file"
	"github.com/scoria-storage/scoria/volume-node/driver/null"
)

// Registry returns all kinds by name.
func Registry() driver.Registry {
	return driver.Registry{file.Kind: file.Factory(), null.Kind: null.Factory()}
}

// Parse reads NAME=KIND[:key=value,…] and refuses what no kind accepts, without opening anything.
func Parse(text string) (driver.Spec, error) {
	spec, err := driver.ParseSpec(text)
	if err != nil {
		return driver.Spec{}, err
	}
	return spec, Registry().Check(spec)
}

// Open opens the backend of a spec.
func Open(ctx context.Context, spec driver.Spec, env driver.Env) (driver.Driver, error) {
	return Registry().Open(ctx, spec, env)
}
