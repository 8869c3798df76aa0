package embednats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Cluster is several servers of one process that keep each stream several times, on one disk: it stands no more than one server
// does, and is there to be measured.
type Cluster struct {
	servers []*server.Server
}

// StartCluster starts n servers in directories below cfg.Dir and waits until all of them know each other. They listen on free ports of
// the loopback, for clients and each other.
func StartCluster(ctx context.Context, cfg Config, n int, log *slog.Logger) (*Cluster, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Cluster{}
	ports, err := freePorts(ctx, n)
	if err != nil {
		return nil, err
	}
	var routes []*url.URL
	for _, port := range ports {
		routes = append(routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort(loopback, strconv.Itoa(port))})
	}
	for i, port := range ports {
		opts := &server.Options{
			ServerName: cfg.Name + "-" + strconv.Itoa(i), JetStream: true, StoreDir: filepath.Join(cfg.Dir, strconv.Itoa(i)), SyncAlways: true,
			JetStreamMaxStore: noLimit, NoSigs: true, DisableShortFirstPing: true,
			Host: loopback, Port: server.RANDOM_PORT, // a server that does not listen (nats-server 2.15.2) does not listen for the others either
			Cluster: server.ClusterOpts{Name: cfg.Name, Host: loopback, Port: port}, Routes: routes,
		}
		srv, err := server.NewServer(opts)
		if err != nil {
			c.Shutdown()
			return nil, fmt.Errorf("embedded NATS server %d of %d: %w", i+1, n, err)
		}
		srv.SetLoggerV2(&logger{log: log}, false, false, false)
		srv.Start()
		c.servers = append(c.servers, srv)
	}
	if err := c.formed(ctx); err != nil {
		c.Shutdown()
		return nil, err
	}
	return c, nil
}

const loopback = "127.0.0.1"

// freePorts finds ports for the servers' connections with each other: each has to know all of them at its start.
func freePorts(ctx context.Context, n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(loopback, "0"))
		if err != nil {
			return nil, err
		}
		defer l.Close() // after all: none is given twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// formed waits until one of them leads all.
func (c *Cluster) formed(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the embedded NATS servers found no leader within a minute"))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, srv := range c.servers {
			if srv.JetStreamIsLeader() && len(srv.JetStreamClusterPeers()) == len(c.servers) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// Connect connects this process to the first server without a socket.
func (c *Cluster) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append([]nats.Option{nats.InProcessServer(c.servers[0])}, opts...)...)
}

// Shutdown ends the servers and waits until their files are closed.
func (c *Cluster) Shutdown() {
	for _, srv := range c.servers {
		srv.Shutdown()
	}
	for _, srv := range c.servers {
		srv.WaitForShutdown()
	}
}
