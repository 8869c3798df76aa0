package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/scoria-storage/scoria/volume-node/export"
)

// Export makes a volume reachable; see [export.Exporter].
func (s *Server) Export(ctx context.Context, r export.Request) (export.Connection, error) {
	if err := validRequest(r); err != nil {
		return export.Connection{}, err
	}
	v, err := s.begin(ctx, r.Volume)
	if err != nil {
		return export.Connection{}, err
	}
	defer s.end(v)
	if err := v.admit(r.Fence); err != nil {
		return export.Connection{}, err
	}
	s.mu.Lock()
	owner := s.owners[r.Attachment]
	x := v.disks[r.Attachment]
	s.mu.Unlock()
	switch {
	case owner != "" && owner != r.Volume:
		return export.Connection{}, fmt.Errorf("%w: attachment %s is of volume %s", export.ErrConflict, r.Attachment, owner)
	case x != nil:
		err = s.again(v, x, r)
	default:
		err = s.first(v, r)
	}
	if err != nil {
		return export.Connection{}, err
	}
	return s.connection(r.Attachment, r.Bytes, r.ReadOnly), nil
}

// first makes a new export. The caller has the volume's lock.
func (s *Server) first(v *volume, r export.Request) error {
	e := entry{Attachment: r.Attachment, Path: r.Path, Bytes: r.Bytes, ReadOnly: r.ReadOnly}
	x := s.newExported(v, e)
	if err := x.open(); err != nil {
		return openError(err)
	}
	next := v.record
	next.Fence, next.Path = r.Fence, r.Path
	next.Exports = append(slices.Clone(next.Exports), e)
	if err := s.commit(v, next); err != nil {
		_ = x.close() // nothing was written
		return err
	}
	s.mu.Lock()
	v.disks[r.Attachment] = x
	s.owners[r.Attachment] = v.id
	s.mu.Unlock()
	if err := s.publish(x); err != nil {
		return fmt.Errorf("%w: %w", export.ErrUnavailable, err)
	}
	s.log.Info("export made", "attachment", r.Attachment, "volume", r.Volume, "operation", r.Operation,
		"fence", r.Fence, "bytes", r.Bytes, "read_only", r.ReadOnly)
	return nil
}

// again answers for an export that exists. The caller has the volume's lock.
func (s *Server) again(v *volume, x *exported, r export.Request) error {
	i := v.record.find(r.Attachment)
	if i < 0 || x.isLeaving() {
		return fmt.Errorf("%w: attachment %s is being removed", export.ErrUnavailable, r.Attachment)
	}
	e := v.record.Exports[i]
	if e.Path != r.Path || e.ReadOnly != r.ReadOnly || e.Bytes > r.Bytes {
		return fmt.Errorf("%w: attachment %s is of %s, %d bytes, read-only %v", export.ErrConflict, r.Attachment, e.Path, e.Bytes, e.ReadOnly)
	}
	if err := x.grow(r.Bytes); err != nil {
		return openError(err)
	}
	if e.Bytes == r.Bytes && v.record.Fence == r.Fence {
		return nil
	}
	next := v.record
	next.Fence = r.Fence
	next.Exports = slices.Clone(next.Exports)
	next.Exports[i].Bytes = r.Bytes
	return s.commit(v, next)
}

// Unexport cuts a host off; see [export.Exporter].
func (s *Server) Unexport(ctx context.Context, r export.Removal) error {
	if err := errors.Join(token("Attachment", r.Attachment), token("Volume", r.Volume)); err != nil {
		return err
	}
	v, err := s.begin(ctx, r.Volume)
	if err != nil {
		return err
	}
	defer s.end(v)
	if err := v.admit(r.Fence); err != nil {
		return err
	}
	s.mu.Lock()
	owner := s.owners[r.Attachment]
	x := v.disks[r.Attachment]
	s.mu.Unlock()
	if owner != "" && owner != r.Volume {
		return fmt.Errorf("%w: attachment %s is of volume %s", export.ErrConflict, r.Attachment, owner)
	}
	if x != nil {
		x.leave()
		if err := s.nbd.Cut(ctx, r.Attachment); err != nil {
			return err
		}
		if err := x.close(); err != nil {
			s.log.Error("last sync of an export failed: what the host wrote may be lost", "attachment", r.Attachment,
				"volume", r.Volume, "error", err)
			return fmt.Errorf("last sync of %s: %w", r.Attachment, err)
		}
	}
	next := v.record
	next.Fence = r.Fence
	if i := next.find(r.Attachment); i >= 0 {
		next.Exports = slices.Delete(slices.Clone(next.Exports), i, i+1)
	} else if next.Fence == v.record.Fence {
		return nil
	}
	if err := s.commit(v, next); err != nil {
		return err
	}
	s.mu.Lock()
	delete(v.disks, r.Attachment)
	delete(s.owners, r.Attachment)
	s.mu.Unlock()
	if x != nil {
		s.log.Info("export removed", "attachment", r.Attachment, "volume", r.Volume, "operation", r.Operation, "fence", r.Fence)
	}
	return nil
}

// Resize raises the size that new clients see; see [export.Exporter].
func (s *Server) Resize(ctx context.Context, id string, bytes int64) error {
	if err := token("Volume", id); err != nil {
		return err
	}
	v, err := s.begin(ctx, id)
	if err != nil {
		return err
	}
	defer s.end(v)
	next := v.record
	next.Exports = slices.Clone(next.Exports)
	changed := false
	for i, e := range next.Exports {
		if bytes < e.Bytes {
			return fmt.Errorf("%w: volume %s has %d bytes, an export does not shrink to %d", export.ErrInvalid, id, e.Bytes, bytes)
		}
		s.mu.Lock()
		x := v.disks[e.Attachment]
		s.mu.Unlock()
		if err := x.grow(bytes); err != nil {
			return openError(err)
		}
		changed = changed || e.Bytes != bytes
		next.Exports[i].Bytes = bytes
	}
	if !changed {
		return nil
	}
	return s.commit(v, next)
}

// List returns all exports; see [export.Exporter].
func (s *Server) List(context.Context) ([]export.Exported, error) {
	s.mu.Lock()
	var list []export.Exported
	var disks []*exported
	for _, v := range s.volumes {
		for _, e := range v.record.Exports {
			list = append(list, export.Exported{
				Attachment: e.Attachment, Volume: v.id, Path: e.Path, Fence: v.record.Fence,
				Connection: s.connection(e.Attachment, e.Bytes, e.ReadOnly),
			})
			disks = append(disks, v.disks[e.Attachment])
		}
	}
	s.mu.Unlock()
	for i := range list {
		list[i].Clients = s.nbd.Clients(list[i].Attachment)
		if x := disks[i]; x != nil {
			if err := x.fault(); err != nil {
				list[i].Fault = err.Error()
			}
		}
	}
	slices.SortFunc(list, func(a, b export.Exported) int { return strings.Compare(a.Attachment, b.Attachment) })
	return list, nil
}

// openError gives an error of opening a volume its kind.
func openError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", export.ErrNotFound, err)
	case errors.Is(err, os.ErrInvalid):
		return fmt.Errorf("%w: %w", export.ErrInvalid, err)
	}
	return err
}

func validRequest(r export.Request) error {
	err := errors.Join(token("Attachment", r.Attachment), token("Volume", r.Volume))
	if !filepath.IsAbs(r.Path) || filepath.Clean(r.Path) != r.Path {
		err = errors.Join(err, fmt.Errorf("%w: Path %q is not absolute and clean", export.ErrInvalid, r.Path))
	}
	if r.Bytes <= 0 {
		err = errors.Join(err, fmt.Errorf("%w: Bytes is %d", export.ErrInvalid, r.Bytes))
	}
	return err
}

// token checks an ID: it becomes part of the name of a file and of a URI.
func token(field, id string) error {
	ok := len(id) > 0 && len(id) <= 64
	for _, c := range id {
		ok = ok && (c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z')
	}
	if !ok {
		return fmt.Errorf("%w: %s %q is not 1 to 64 letters, digits, _ and -", export.ErrInvalid, field, id)
	}
	return nil
}
