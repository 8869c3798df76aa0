package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

// attach attaches a volume as a person does, and returns the attachment and its URI.
func attach(t *testing.T, a *harness.API, volume string, flags ...string) (id, uri string) {
	t.Helper()
	out, stderr, status := a.CLI(t, append([]string{"volume", "attach", volume, "-o", "json"}, flags...)...)
	var said struct{ Attachment, URI string }
	if status != 0 || json.Unmarshal([]byte(out), &said) != nil || said.Attachment == "" || said.URI == "" {
		t.Fatalf("attach: status %d, printed %q, said %q", status, out, stderr)
	}
	return said.Attachment, said.URI
}

// detach cuts the host off.
func detach(t *testing.T, a *harness.API, attachment string) {
	t.Helper()
	a.Must(t, http.StatusOK, http.MethodDelete, "/attachments/"+attachment, nil, nil)
}

// traffic is a host that writes and reads, one after the other, and checks what it reads.
type traffic struct {
	host *harness.Host
	// again: a connection that ends is made again, and the request repeated. Else it is the end.
	again bool
	rnd   *rand.Rand

	requests atomic.Int64 // that were answered
	asked    chan struct{}
	ended    chan struct{}
	stopping sync.Once
	content  harness.Content // what was answered; of the goroutine until ended is closed
	doubtful harness.Content // what was asked for and not answered
	err      error
}

// trafficBlocks is how much of the volume a traffic uses.
const trafficBlocks = 2048

// newTraffic starts one. It is stopped with the test at the latest.
func newTraffic(t *testing.T, uri string, again bool, content harness.Content, rnd *rand.Rand) *traffic {
	t.Helper()
	host, err := harness.NewHost(uri)
	if err != nil {
		t.Fatal(err)
	}
	f := &traffic{host: host, again: again, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 0)), content: content.Clone(), doubtful: harness.Content{},
		asked: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		defer host.Close()
		f.err = f.run()
	}()
	t.Cleanup(func() {
		f.stopping.Do(func() { close(f.asked) })
		host.Close() // what is not answered will not be
		<-f.ended
	})
	return f
}

func (f *traffic) run() error {
	for {
		select {
		case <-f.asked:
			return nil
		default:
		}
		n, tag := f.rnd.Int64N(trafficBlocks), f.rnd.Uint64()|1
		f.doubtful[n] = tag
		if err := f.persist(func() error { return f.host.Write(harness.Content{n: tag}) }); err != nil {
			return err
		}
		delete(f.doubtful, n)
		f.content[n] = tag
		n = f.rnd.Int64N(trafficBlocks)
		var have uint64
		if err := f.persist(func() (err error) { have, err = f.host.Read(n); return err }); err != nil {
			return err
		}
		if have != f.content[n] {
			return fmt.Errorf("block %d reads as %#x, want %#x", n, have, f.content[n])
		}
		f.requests.Add(1)
	}
}

// persist repeats a request while the host has no connection, if the traffic is of that kind.
func (f *traffic) persist(request func() error) error {
	for {
		err := request()
		if err == nil || !f.again || !errors.Is(err, harness.ErrConnection) {
			return err
		}
		select {
		case <-f.asked:
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends it and returns what the volume must hold, and the error that ended it before.
func (f *traffic) stop() (harness.Content, error) {
	f.stopping.Do(func() { close(f.asked) })
	<-f.ended
	return f.content, f.err
}

// goesOn waits until so many more requests were answered.
func (f *traffic) goesOn(t *testing.T, what string) {
	t.Helper()
	const more = 100
	from := f.requests.Load()
	harness.Eventually(t, time.Minute, "the host's requests are answered "+what, func() bool {
		select {
		case <-f.ended:
			t.Fatalf("the host's requests ended %s: %v", what, f.err)
		default:
		}
		return f.requests.Load() >= from+more
	})
}

// volumeFile is the file of a volume of a stack with its default backend.
func volumeFile(s *harness.Stack, volume string) string {
	return filepath.Join(s.Dir, "volumes", "volumes", volume)
}

// wantContent fails unless the file has the content.
func wantContent(t *testing.T, path string, want harness.Content) {
	t.Helper()
	have, _, err := harness.ReadContent(path)
	if err != nil {
		t.Fatal(err)
	}
	if text := want.Differs(have); text != "" {
		t.Errorf("%s: %s", path, text)
	}
}
