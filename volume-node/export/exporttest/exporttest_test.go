package exporttest_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scoria-storage/scoria/volume-node/export/exporttest"
	"github.com/scoria-storage/scoria/volume-node/export/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLocalServerConforms(t *testing.T) {
	t.Parallel()
	exporttest.Run(t, func(t *testing.T) *exporttest.Bench {
		l := exporttest.Start(t, func(c *server.Config) { c.HoldLimit = 2 * time.Second })
		return &exporttest.Bench{Exporter: l, HoldLimit: 2 * time.Second, Syncs: l.Syncs}
	})
}
