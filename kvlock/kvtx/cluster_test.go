package kvtx_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// serveCluster boots three servers and returns their client URLs.
func serveCluster(t testing.TB) []string {
	t.Helper()
	var ports []int
	var routes []*url.URL
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		_ = l.Close()
	}
	var urls []string
	var servers []*server.Server
	for i, port := range ports {
		srv, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port}, Routes: routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		srv.Start()
		t.Cleanup(func() {
			srv.Shutdown()
			srv.WaitForShutdown()
		})
		if !srv.ReadyForConnections(20 * time.Second) {
			t.Fatal("server is not ready")
		}
		urls = append(urls, srv.ClientURL())
		servers = append(servers, srv)
	}
	// Only the leader tells its peers.
	until(t, func() bool {
		return slices.ContainsFunc(servers, func(s *server.Server) bool { return len(s.JetStreamClusterPeers()) == 3 })
	})
	return urls
}

// TestReplicatedStreamKeepsTheInvariants: increments of shared and own records with checks, by two processes on three servers.
func TestReplicatedStreamKeepsTheInvariants(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	t.Parallel()
	urls := serveCluster(t)
	js := connect(t, strings.Join(urls, ","))
	var first *kvtx.Store
	until(t, func() bool {
		s, err := kvtx.Ensure(ctx(t), js, kvtx.Config{Replicas: 3})
		first = s
		return err == nil
	})
	t.Cleanup(func() { _ = first.Close() })
	second, err := kvtx.Open(ctx(t), connect(t, urls[1]), kvtx.Config{Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close() })
	stores := []*kvtx.Store{first, second}
	anchor := commit(t, first, func(tx *kvtx.Tx) { tx.Put("anchor", nil, 0) }).Revision("anchor")
	const workers, rounds = 16, 10
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			own := fmt.Sprintf("own.%d", w)
			for range rounds {
				_, err := stores[w%2].Update(ctx(t), []string{"counter", own}, func(snap kvtx.Snapshot, tx *kvtx.Tx) error {
					if w%5 == 0 {
						tx.Check("anchor", anchor)
					}
					return incrementAll(snap, tx, []string{"counter", own})
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	// A watch that has caught up has seen every commit, whichever server its consumer is on.
	seen := map[string]kvtx.Entry{}
	enough := errors.New("enough")
	err = second.Watch(ctx(t), []string{"own.*", "counter", "none.*"}, func(ev kvtx.Event) error {
		if ev.CaughtUp {
			return enough
		}
		seen[ev.Entry.Key] = ev.Entry
		return nil
	})
	if !errors.Is(err, enough) || number(seen["counter"]) != workers*rounds || len(seen) != workers+1 {
		t.Errorf("Watch = %v; %d keys, counter = %s", err, len(seen), seen["counter"].Value)
	}
	if e := get(t, first, "counter"); number(e) != workers*rounds {
		t.Errorf("counter = %s, want %d", e.Value, workers*rounds)
	}
	for w := range workers {
		if e := get(t, second, fmt.Sprintf("own.%d", w)); number(e) != rounds {
			t.Errorf("%s = %s, want %d", e.Key, e.Value, rounds)
		}
	}
}
