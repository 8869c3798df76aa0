package null_test

import (
	"context"
	"testing"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/drivertest"
	"github.com/scoria-storage/scoria/volume-node/driver/null"
)

func TestMain(m *testing.M) {
	drivertest.Main(m, func(context.Context, string, drivertest.Env) (driver.Driver, error) { return null.New(), nil })
}

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Config{Fresh: func(*testing.T) string { return "fake=null" }})
}
