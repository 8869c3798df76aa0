package view

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hashicorp/go-memdb"
)

const (
	volumes     = "volume"
	snapshots   = "snapshot"
	attachments = "attachment"
	operations  = "operation"
)

// Indexes. Newest first is the order of the keys: times and IDs stand in them inverted, so that a list is a walk forward.
const (
	byID      = "id"
	byProject = "project"
	byAge     = "age"
	byLive    = "live" // operations that have not ended
)

func newTables() *memdb.MemDB {
	schema := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	for _, name := range []string{volumes, snapshots, attachments, operations} {
		indexes := map[string]*memdb.IndexSchema{
			byID:      {Name: byID, Unique: true, Indexer: idIndex{}},
			byProject: {Name: byProject, Unique: true, Indexer: ageIndex{project: true}},
			byAge:     {Name: byAge, Unique: true, Indexer: ageIndex{}},
		}
		if name == operations {
			indexes[byLive] = &memdb.IndexSchema{Name: byLive, Unique: true, AllowMissing: true, Indexer: ageIndex{live: true}}
		}
		schema.Tables[name] = &memdb.TableSchema{Name: name, Indexes: indexes}
	}
	db, err := memdb.NewMemDB(schema)
	if err != nil { // the schema is a constant
		panic(fmt.Sprintf("view: schema of the tables: %v", err))
	}
	return db
}

var errArgs = errors.New("an index was given other arguments than its own")

type idIndex struct{}

func (idIndex) FromArgs(args ...any) ([]byte, error) {
	if len(args) == 1 {
		if id, ok := args[0].(string); ok {
			return []byte(id), nil
		}
	}
	return nil, errArgs
}

func (idIndex) FromObject(raw any) (bool, []byte, error) {
	r, ok := raw.(row)
	if !ok {
		return false, nil, errArgs
	}
	return true, []byte(r.place().id), nil
}

// ageIndex orders rows by the time when they were made and their ID, both descending, all together or within a project.
type ageIndex struct {
	project bool
	live    bool
}

// FromArgs takes the project, or nothing, and returns the beginning of the keys.
func (x ageIndex) FromArgs(args ...any) ([]byte, error) {
	if len(args) == 1 && x.project {
		if p, ok := args[0].(string); ok {
			return append([]byte(p), 0), nil
		}
	}
	return nil, errArgs
}

func (x ageIndex) FromObject(raw any) (bool, []byte, error) {
	r, ok := raw.(row)
	if !ok {
		return false, nil, errArgs
	}
	p := r.place()
	if x.live && !p.live {
		return false, nil, nil
	}
	key := make([]byte, 0, len(p.project)+1+8+len(p.id))
	if x.project {
		key = append(append(key, p.project...), 0)
	}
	key = binary.BigEndian.AppendUint64(key, ^nanos(p.created))
	for i := range len(p.id) {
		key = append(key, ^p.id[i])
	}
	return true, key, nil
}

func nanos(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(t.UnixNano(), 0))
}

// The errors of memdb say that a table, an index or an argument does not exist, and all of them stand in this file.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("view: tables: %v", err))
	}
	return v
}

// get returns the row of the ID, or nil.
func get[T any](txn *memdb.Txn, table, id string) *T {
	r, _ := must(txn.First(table, byID, id)).(*T)
	return r
}

func put(txn *memdb.Txn, table string, r row) { must(0, txn.Insert(table, r)) }

// remove deletes the row of the ID, if there is one.
func remove[T any](txn *memdb.Txn, table, id string) {
	if r := get[T](txn, table, id); r != nil {
		must(0, txn.Delete(table, r))
	}
}

// walk goes over the rows of an index from one publication.
func walk[T any](db *memdb.MemDB, table, index string, args ...any) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		it := must(db.Txn(false).Get(table, index, args...))
		for raw := it.Next(); raw != nil; raw = it.Next() {
			if r, ok := raw.(*T); ok && !yield(r) {
				return
			}
		}
	}
}

// list goes over the rows of a project, or of all, newest first.
func list[T any](db *memdb.MemDB, table, project string) iter.Seq[*T] {
	if project == "" {
		return walk[T](db, table, byAge)
	}
	return walk[T](db, table, byProject, project)
}
