// Package server is the export server: the process through which hosts' data flows, one for each node, and what it
// consists of.
//
// Nouns. A [Server] is the table of exports with the disks that are open and the NBD server in front of them; its methods do
// what those of an [export.Exporter] ask of it. [Run] is the process: a server with its control socket, its lock and its end.
// A *record* is what the table says of a volume: the exports, and the highest fence.
//
// Invariants, beside those of package export:
//
//   - One Run for each state directory: it holds the lock file until its last thread is gone.
//   - The record on disk is changed before an export appears, and after it has disappeared: whatever the moment of a
//     crash, a host never has access that the table does not know of, and a repeated call finishes the rest.
//   - A record outlives its exports, so that the fence does. It is forgotten when the volume's file has been missing for a day.
//   - All exports of a volume share one gate; a hold is in force exactly while its token is known.
//
// What it does not do: start itself (package control does), or decide who may attach.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/ctl"
	"github.com/scoria-storage/scoria/volume-node/export/disk"
	"github.com/scoria-storage/scoria/volume-node/export/nbd"
)

// Config of a server. StateDir must be set.
type Config struct {
	// StateDir is the directory of the table, the lock and, if its path is short enough, the sockets.
	StateDir string
	// HoldLimit is how long a hold may last before it ends by itself. Default 10 s.
	HoldLimit time.Duration
	// StopLimit is how long Run waits for requests under way when it ends. Default 20 s.
	StopLimit time.Duration
	// MaxConnections bounds the connections of all hosts together. Default 256.
	MaxConnections int
	// Log. Default: nothing is logged.
	Log *slog.Logger
	// Open opens volumes. Default disk.OpenFile.
	Open disk.Opener
	// Ready is called by Run when the sockets answer. Optional.
	Ready func(ctl.Paths)
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.StateDir == "":
		return errors.New("StateDir: a directory is needed")
	case c.HoldLimit < 0:
		return fmt.Errorf("HoldLimit: %v is negative", c.HoldLimit)
	case c.StopLimit < 0:
		return fmt.Errorf("StopLimit: %v is negative", c.StopLimit)
	case c.MaxConnections < 0:
		return fmt.Errorf("MaxConnections: %d is negative", c.MaxConnections)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.HoldLimit == 0 {
		c.HoldLimit = 10 * time.Second
	}
	if c.StopLimit == 0 {
		c.StopLimit = 20 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Open == nil {
		c.Open = disk.OpenFile
	}
	return c
}

// Server is the table of exports and what serves them.
type Server struct {
	cfg   Config
	log   *slog.Logger
	paths ctl.Paths
	table table
	nbd   *nbd.Server

	mu      sync.Mutex
	volumes map[string]*volume
	owners  map[string]string // attachment → volume
	holds   map[string]*hold  // by token
	closed  bool
}

// volume is what the server knows of a volume. It exists while it has a record or somebody uses it.
type volume struct {
	id     string
	gate   disk.Gate
	change chan struct{} // a lock that may be waited for with a context; for whoever changes the record

	// Guarded by Server.mu.
	users    int
	recorded bool // the record is in the table
	record   record
	disks    map[string]*exported // by attachment
	damaged  error                // the record cannot be read: nothing may be changed
	missing  time.Time            // since when the path of the record is known to be missing
}

// newServer loads the table and opens what is exported. The caller holds the lock of the state directory.
func newServer(cfg Config, paths ctl.Paths) (*Server, error) {
	t, err := openTable(paths.Table)
	if err != nil {
		return nil, err
	}
	records, damaged, err := t.load()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, paths: paths, table: t,
		nbd:     nbd.NewServer(nbd.Config{Log: cfg.Log, MaxConnections: cfg.MaxConnections}),
		volumes: map[string]*volume{},
		owners:  map[string]string{},
		holds:   map[string]*hold{},
	}
	for id, r := range records {
		v := newVolume(id)
		v.record, v.recorded = r, true
		s.volumes[id] = v
		for _, e := range r.Exports {
			s.restore(v, e)
		}
	}
	for id, err := range damaged {
		v := newVolume(id)
		v.damaged, v.recorded = err, true
		s.volumes[id] = v
		s.log.Error("exports of a volume are unusable", "volume", id, "error", err)
	}
	return s, nil
}

func newVolume(id string) *volume {
	return &volume{
		id: id, change: make(chan struct{}, 1), disks: map[string]*exported{},
		record: record{Version: recordVersion, Volume: id},
	}
}

// restore brings an export of the table back. If its file cannot be opened now, each client that comes tries again.
func (s *Server) restore(v *volume, e entry) {
	x := s.newExported(v, e)
	if err := x.open(); err != nil {
		s.log.Error("export cannot be opened", "attachment", e.Attachment, "volume", v.id, "error", err)
	}
	v.disks[e.Attachment] = x
	s.owners[e.Attachment] = v.id
	if err := s.publish(x); err != nil {
		s.log.Error("export cannot be served", "attachment", e.Attachment, "volume", v.id, "error", err)
	}
}

func (s *Server) publish(x *exported) error {
	return s.nbd.Add(nbd.Export{
		Name: x.attachment, Description: "volume " + x.volume,
		Open: x.device,
	})
}

// use returns a volume for a while; drop gives it back.
func (s *Server) use(id string) *volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.volumes[id]
	if v == nil {
		v = newVolume(id)
		s.volumes[id] = v
	}
	v.users++
	return v
}

func (s *Server) drop(v *volume) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(v)
}

func (s *Server) dropLocked(v *volume) {
	v.users--
	if v.users == 0 && !v.recorded {
		delete(s.volumes, v.id)
	}
}

// lock makes the caller the only one who changes the volume.
func (v *volume) lock(ctx context.Context) error {
	select {
	case v.change <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("another change of the exports of volume %s is under way: %w", v.id, context.Cause(ctx))
	}
}

func (v *volume) unlock() { <-v.change }

// begin takes a volume for a change; end gives it back.
func (s *Server) begin(ctx context.Context, id string) (*volume, error) {
	v := s.use(id)
	if err := v.lock(ctx); err != nil {
		s.drop(v)
		return nil, err
	}
	if v.damaged != nil {
		s.end(v)
		return nil, v.damaged
	}
	return v, nil
}

// admit refuses a fence lower than the highest seen.
func (v *volume) admit(fence export.Fence) error {
	if fence.Compare(v.record.Fence) < 0 {
		return fmt.Errorf("%w (fence %v, seen %v, volume %s)", export.ErrFenced, fence, v.record.Fence, v.id)
	}
	return nil
}

func (s *Server) end(v *volume) {
	v.unlock()
	s.drop(v)
}

// commit makes a record durable and then the present one. The caller has the volume's lock.
func (s *Server) commit(v *volume, r record) error {
	if err := s.table.write(r); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v.record, v.recorded = r, true
	v.missing = time.Time{}
	return nil
}

func (s *Server) connection(attachment string, bytes int64, readOnly bool) export.Connection {
	return export.Connection{
		Protocol: "nbd", Name: attachment, Socket: s.paths.NBD, Bytes: bytes, ReadOnly: readOnly,
		URI: "nbd+unix:///" + attachment + "?socket=" + strings.ReplaceAll(url.QueryEscape(s.paths.NBD), "%2F", "/"),
	}
}

// close cuts all hosts off and syncs what they wrote; the table stays. If ctx ends before, what is under way goes on, and
// close may be called again.
func (s *Server) close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for _, h := range s.holds {
		s.finish(h)
	}
	var disks []*exported
	for _, v := range s.volumes {
		for _, x := range v.disks {
			disks = append(disks, x)
		}
	}
	s.mu.Unlock()
	if err := s.nbd.Close(ctx); err != nil {
		return err
	}
	var errs []error
	for _, x := range disks {
		if err := x.close(); err != nil {
			s.log.Error("last sync of an export failed: what the host wrote may be lost", "attachment", x.attachment, "error", err)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
