package embednats_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/scoria-storage/scoria/deploy/embednats"
	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

func TestAClusterKeepsAStreamThreeTimes(t *testing.T) {
	t.Parallel()
	c, err := embednats.StartCluster(t.Context(), embednats.Config{Dir: t.TempDir(), Name: "three"}, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Shutdown)
	nc, err := c.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	store, err := kvtx.Ensure(t.Context(), js, kvtx.Config{Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	info, err := store.Stream().Info(t.Context())
	if err != nil || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
		t.Errorf("the stream is %+v, %v: want a leader and two replicas", info, err)
	}
	var tx kvtx.Tx
	tx.Put("a", []byte("1"), 0)
	tx.Put("b", []byte("2"), 0)
	if _, err := store.Commit(t.Context(), &tx); err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}
