package embednats

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// DamageError: what the server was to start on has lost something. Nothing was changed.
type DamageError struct {
	// Found says in sentences what is damaged, and what is lost with it.
	Found []string
}

func (e *DamageError) Error() string { return strings.Join(e.Found, "; ") }

// kept is a stream as it lies on the disk (nats-server 2.15.2, server/filestore.go): its records in msgs/<number>.blk, oldest first; copies of
// the last sequence in msgs/index.db, written now and then, and in obs/<consumer>/o.dat, after each delivery; and in batches/ the batch that was
// being applied, which a start finishes.
type kept struct {
	dir           string
	account, name string
	blocks        []*blockFile // oldest first
	staged        int64        // bytes of the batch that was being applied
	last          uint64       // highest sequence of its records
}

// inspect reads all streams below the server's directory and says what is damaged. The server itself cuts a block off at the first record that
// it cannot read, and goes on without a word to its clients; and it reads blocks only where it did not end in order.
func inspect(dir string) (all []*kept, damage []string, err error) {
	dirs, err := filepath.Glob(filepath.Join(escape(dir), "jetstream", "*", "streams", "*"))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range dirs {
		if strings.HasPrefix(filepath.Base(path), ".") {
			continue // was being deleted
		}
		k := &kept{dir: path, account: filepath.Base(filepath.Dir(filepath.Dir(path))), name: filepath.Base(path)}
		found, err := k.read()
		if err != nil {
			return nil, nil, fmt.Errorf("stream %s: %w", k.name, err)
		}
		all, damage = append(all, k), append(damage, found...)
	}
	return all, damage, nil
}

// complete says which stream the server has left out: it passes one over whose description it cannot read.
func complete(srv *server.Server, streams []*kept) error {
	known, err := srv.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	has := map[string]bool{}
	for _, account := range known.AccountDetails {
		for _, stream := range account.Streams {
			has[filepath.Join(account.Id, stream.Name)] = true
		}
	}
	for _, k := range streams {
		if k.last > 0 && !has[filepath.Join(k.account, k.name)] { // without records it was being made, or removed
			return fmt.Errorf("the embedded NATS server cannot use its stream %s, its log lines say why: restore %s from a copy, with all that belongs to it", k.name, k.dir)
		}
	}
	return nil
}

// escape makes a path a pattern that matches it alone.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// read reads the stream's records and compares them with who else knows of them.
func (k *kept) read() (damage []string, err error) {
	if k.blocks, err = blockFiles(k.dir, k.name); err != nil {
		return nil, err
	}
	if k.staged, err = stagedBytes(k.dir); err != nil {
		return nil, err
	}
	for i, b := range k.blocks {
		if err := b.read(); err != nil {
			return nil, err
		}
		k.last = max(k.last, b.last)
		if unfinished := i == len(k.blocks)-1 && k.unfinished(b); b.whole < b.size && !unfinished {
			damage = append(damage, fmt.Sprintf("%s cannot be read from byte %d on, for %d bytes with %s", b.path, b.whole, b.size-b.whole, b.lost()))
		}
	}
	if k.staged > 0 {
		return damage, nil // the last sequences are still to be written
	}
	witness, knows, err := k.witness()
	if err != nil {
		return nil, err
	}
	if knows > k.last && len(damage) == 0 {
		damage = append(damage, fmt.Sprintf("the records of stream %s end at sequence %d, but %s knows of %d: %d are gone", k.name, k.last, witness, knows, knows-k.last))
	}
	return damage, nil
}

// unfinished says whether the end of the last block, which cannot be read, is what was being written when the server ended: a record, or a
// batch, of which any part may be there. Nothing of it was acknowledged.
func (k *kept) unfinished(b *blockFile) bool {
	return b.after == 0 || b.size-b.whole <= k.staged
}

// witness is the file that knows of the highest sequence, beside the records.
func (k *kept) witness() (path string, last uint64, err error) {
	states, _ := filepath.Glob(filepath.Join(escape(k.dir), "obs", "*", "o.dat"))
	for _, file := range states {
		seq, err := delivered(file)
		if err != nil {
			return "", 0, err
		}
		if seq > last {
			path, last = file, seq
		}
	}
	index := filepath.Join(k.dir, "msgs", "index.db")
	if seq := indexed(index, k.name); seq > last {
		path, last = index, seq
	}
	return path, last, nil
}

// stateFormat begins the state of a consumer: ack floor and last delivery, each with the consumer's and the stream's sequence.
const stateFormat = "\x16\x02"

// delivered is the sequence that a consumer got last; 0: none.
func delivered(path string) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	state, ok := strings.CutPrefix(string(data), stateFormat)
	if len(data) > 0 && !ok {
		return 0, fmt.Errorf("%s is damaged: remove it; what was not finished is delivered again", path)
	}
	return uvarints([]byte(state), 4)[3], nil
}

// indexMagic begins the state of a stream, after it comes a version: messages, bytes, first sequence, its time, last sequence.
const indexMagic = 0x0b

// indexed is the stream's last sequence when its state was written; 0: not known.
func indexed(path, stream string) uint64 {
	data, err := os.ReadFile(path)
	if err != nil || len(data) < 2+hashLen || data[0] != indexMagic {
		return 0
	}
	body := data[:len(data)-hashLen]
	if !newHash(stream).sums(data[len(body):], body) {
		return 0
	}
	return uvarints(body[2:], 5)[4]
}

// uvarints reads n numbers; zeros if there are not as many.
func uvarints(data []byte, n int) []uint64 {
	v := make([]uint64, n)
	for i := range v {
		x, length := binary.Uvarint(data)
		if length <= 0 {
			return make([]uint64, n)
		}
		v[i], data = x, data[length:]
	}
	return v
}

// stagedBytes is what lies in the folder of the batch that was being applied.
func stagedBytes(dir string) (sum int64, err error) {
	files, _ := filepath.Glob(filepath.Join(escape(dir), "batches", "*", "msgs", "*.blk"))
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	return sum, nil
}
