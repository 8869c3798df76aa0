package volumenode

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
	"github.com/scoria-storage/scoria/messages/records"
	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/lock"
)

// served is a backend with its driver.
type served struct {
	spec driver.Spec
	driver.Driver
	*presence
}

// Close gives the backend up.
func (b served) Close() error {
	b.close()
	return b.Driver.Close()
}

// names are those of the backends that this process serves.
func (n *Node) names() (names []string) {
	for _, b := range n.served {
		names = append(names, b.spec.Name)
	}
	return names
}

// checkKinds refuses backends of kinds that there are not, and settings that their kinds do not have.
func (n *Node) checkKinds() error {
	for _, spec := range n.cfg.Backends {
		if err := n.deps.Kinds.Check(spec); err != nil {
			return &SettingError{Name: "backend", Value: spec.String(), Want: err.Error()}
		}
	}
	return nil
}

// openBackends opens all drivers. What their records say is looked at before, so that nothing is made in a wrong place.
func (n *Node) openBackends(ctx context.Context) error {
	for _, spec := range n.cfg.Backends {
		e, err := n.deps.Store.Get(ctx, records.BackendKey(spec.Name))
		if err != nil {
			return fmt.Errorf("backend %s: %w", spec.Name, err)
		}
		var r records.Backend
		if e.Exists {
			if r, err = records.Decode[records.Backend](e.Value); err == nil {
				err = n.mayServe(spec, r)
			}
		}
		if err != nil {
			return err
		}
		d, err := n.deps.Kinds.Open(ctx, spec, driver.Env{Log: n.log, Known: e.Exists, Identity: r.Identity, Pools: lock.NewKV(n.deps.Locks, n.log)})
		if err != nil {
			return &SettingError{Name: "backend", Value: spec.String(), Want: err.Error()}
		}
		d, there := watch(d, n.log.With("backend", spec.Name))
		n.served = append(n.served, served{spec, d, there})
		info := d.Info()
		for _, note := range info.Notes {
			n.log.InfoContext(ctx, "backend opened", "backend", spec.Name, "kind", info.Kind, "note", note)
		}
	}
	return nil
}

// refuseBackend says why a backend is not served.
func refuseBackend(spec driver.Spec, format string, args ...any) error {
	return &SettingError{Name: "backend", Value: spec.String(), Want: fmt.Sprintf(format, args...)}
}

// mayServe refuses a name that is another backend's, by the backend's record.
func (n *Node) mayServe(spec driver.Spec, r records.Backend) error {
	switch {
	case r.Kind != spec.Kind:
		return refuseBackend(spec, "there is a backend %s of kind %s: choose another name", r.Name, r.Kind)
	case r.Node != "" && r.Node != n.id:
		return refuseBackend(spec, "backend %s belongs to node %s (ID %s): its fencing class is node, so only processes of that node may serve it; "+
			"choose another name for this node's backend", r.Name, r.NodeName, r.Node)
	}
	return nil
}

// registerBackend describes the backend and claims its storage for its name, or refuses to serve a name or a storage that
// is another's.
func (n *Node) registerBackend(ctx context.Context, b served) error {
	info := b.Info()
	backend, storage := records.BackendKey(b.spec.Name), records.StorageKey(info.Identity)
	keys := []string{backend}
	if info.Identity != "" {
		keys = append(keys, storage)
	}
	_, err := n.deps.Store.Update(ctx, keys, func(s kvtx.Snapshot, tx *kvtx.Tx) error {
		err := edit(s, tx, backend, func(r *records.Backend, exists bool) error {
			if exists {
				if err := n.mayServe(b.spec, *r); err != nil {
					return err
				}
			}
			if r.Identity != "" && r.Identity != info.Identity {
				return refuseBackend(b.spec, "backend %s has the storage with identity %s, this one has identity %s: another process has "+
					"registered it meanwhile; correct the setting of one of them", r.Name, r.Identity, info.Identity)
			}
			*r = n.describe(b)
			return nil
		})
		if err == nil && tx.Len() == 0 { // as it was: it is written all the same, so that nobody forgets it at this moment
			var e kvtx.Entry
			if e, err = s.Get(backend); err == nil {
				tx.Put(backend, e.Value, e.Revision)
			}
		}
		if err != nil || info.Identity == "" {
			return err
		}
		return edit(s, tx, storage, func(r *records.Storage, exists bool) error {
			if exists && r.Backend != b.spec.Name {
				return refuseBackend(b.spec, "its storage (identity %s) is served as backend %s: a storage has one name, or two backends would "+
					"take each other's volumes; use that name, or give backend %s a storage of its own", r.Identity, r.Backend, b.spec.Name)
			}
			*r = records.Storage{Identity: info.Identity, Backend: b.spec.Name}
			return nil
		})
	})
	return err
}

// hosts are the names of this machine: exports are reached through a socket of its file system.
func (n *Node) hosts() []string {
	names := []string{n.cfg.Name}
	if name, err := os.Hostname(); err == nil && !slices.Contains(names, name) {
		names = append(names, name)
	}
	return names
}

// describe is the record of a backend.
func (n *Node) describe(b served) records.Backend {
	info := b.Info()
	r := records.Backend{
		Name: b.spec.Name, Kind: info.Kind, Fencing: string(info.Fencing), Reflink: info.Capabilities.CloneWhileOpen,
		KeepsData: info.Capabilities.KeepsData, Zone: n.cfg.Zone, Identity: info.Identity,
	}
	if r.KeepsData {
		r.Hosts = n.hosts()
	}
	switch info.Fencing {
	case driver.FencingNode, driver.FencingNone:
		r.Node, r.NodeName = n.id, n.cfg.Name
	case driver.FencingStore:
	}
	return r
}
