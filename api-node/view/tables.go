package view

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync"
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
	byAge     = "id" // what memdb calls the index that every table must have
	byProject = "project"
	byLive    = "live" // operations that have not ended
)

// tables hold the rows: in order for lists, and by ID. An entry of an ordered index takes half a kilobyte, one of a map a tenth of it,
// so there is no ordered index of IDs.
type tables struct {
	ordered *memdb.MemDB
	mu      sync.RWMutex // of byID; ordered is committed under it, so that both tell of the same publication
	byID    map[string]rows
}

// rows are the rows of a table, by ID.
type rows map[string]row

var tableNames = []string{volumes, snapshots, attachments, operations}

func newTables() *tables {
	schema := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	for _, name := range tableNames {
		indexes := map[string]*memdb.IndexSchema{
			byAge:     {Name: byAge, Unique: true, Indexer: ageIndex{}},
			byProject: {Name: byProject, Unique: true, Indexer: ageIndex{project: true}},
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
	return &tables{ordered: db, byID: newRows()}
}

func newRows() map[string]rows {
	byID := map[string]rows{}
	for _, name := range tableNames {
		byID[name] = rows{}
	}
	return byID
}

var errArgs = errors.New("an index was given other arguments than its own")

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
func get[T any](t *tables, table, id string) *T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	r, _ := any(t.byID[table][id]).(*T)
	return r
}

// publication is what becomes visible at once. There is one at a time.
type publication struct {
	t       *tables
	ordered *memdb.Txn
	changed map[string]rows // a nil row is removed
}

func (t *tables) begin() *publication {
	return &publication{t: t, ordered: t.ordered.Txn(true), changed: newRows()}
}

// old returns the row of the ID as the publication has it by now, or nil.
func (p *publication) old(table, id string) row {
	if r, ok := p.changed[table][id]; ok {
		return r
	}
	p.t.mu.RLock()
	defer p.t.mu.RUnlock()
	return p.t.byID[table][id]
}

func (p *publication) put(table string, r row) {
	at := r.place()
	if was := p.old(table, at.id); was != nil && !was.place().beside(at) {
		must(0, p.ordered.Delete(table, was)) // made anew under the same ID
	}
	must(0, p.ordered.Insert(table, r))
	p.changed[table][at.id] = r
}

// remove deletes the row of the ID, if there is one.
func (p *publication) remove(table, id string) {
	if was := p.old(table, id); was != nil {
		must(0, p.ordered.Delete(table, was))
		p.changed[table][id] = nil
	}
}

func (p *publication) commit() {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	for table, changed := range p.changed {
		for id, r := range changed {
			if r == nil {
				delete(p.t.byID[table], id)
			} else {
				p.t.byID[table][id] = r
			}
		}
	}
	p.ordered.Commit()
}

// walk goes over the rows of an index from one publication.
func walk[T any](t *tables, table, index string, args ...any) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		it := must(t.ordered.Txn(false).Get(table, index, args...))
		for raw := it.Next(); raw != nil; raw = it.Next() {
			if r, ok := raw.(*T); ok && !yield(r) {
				return
			}
		}
	}
}

// list goes over the rows of a project, or of all, newest first.
func list[T any](t *tables, table, project string) iter.Seq[*T] {
	if project == "" {
		return walk[T](t, table, byAge)
	}
	return walk[T](t, table, byProject, project)
}
