package rest

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/api-node/verify"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

// silent is a stream that stops answering when its test says so.
type silent struct{ since atomic.Int64 }

func (s *silent) stop() { s.since.Store(time.Now().UnixNano()) }

func (s *silent) Await(context.Context) error {
	if s.since.Load() == 0 {
		return nil
	}
	return messages.Errorf(messages.CodeUnavailable, "NATS (somewhere) has not answered for 9s")
}

func (s *silent) While(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	if err := s.Await(ctx); err != nil {
		end(err)
	}
	return ctx, func() { end(nil) }
}

func (s *silent) Stale() time.Duration {
	if s.since.Load() == 0 {
		return 0
	}
	return 9*time.Second + 300*time.Millisecond
}

// hanging is what asks a stream that does not answer.
type hanging struct{ Reader }

func (h hanging) Lookup(ctx context.Context, _ block.OperationID) (*view.Operation, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (h hanging) Verify(ctx context.Context) (verify.Report, error) {
	<-ctx.Done()
	return verify.Report{}, ctx.Err()
}

func TestWhileTheStreamDoesNotAnswer(t *testing.T) {
	t.Parallel()
	var stream silent
	s := newStack(t, func(c *Config) {
		c.Stream, c.Verifier, c.Reader = &stream, hanging{}, hanging{c.Reader}
	})
	volume := s.newVolume(nil)
	known := string(s.submit(&messages.ExtendVolume{Volume: block.VolumeID(volume), SizeGiB: 2}).Operation)
	s.until("the operation is in memory", func() bool { _, ok := s.view.Operation(block.OperationID(known)); return ok })
	before := s.bucket()
	reads := []string{"volumes", "volumes/detail", "volumes/" + volume, "snapshots", "limits", "/scoria/v1/operations", "/scoria/v1/operations/" + known,
		"/scoria/v1/locks", "/scoria/v1/locks/" + volume, "/scoria/v1/nodes", "/scoria/v1/backends", "/scoria/v1/pools"}
	for _, path := range reads {
		if a := s.get(path); a.status != 200 || a.header.Get(headerStale) != "" {
			t.Errorf("GET %s: %d, %s %q, want 200 without it", path, a.status, headerStale, a.header.Get(headerStale))
		}
	}
	stream.stop()
	for _, path := range append(reads, "volumes?limit=1") {
		if a := s.get(path); a.status != 200 || a.header.Get(headerStale) != "9" {
			t.Errorf("GET %s: %d, %s %q, want 200 and 9", path, a.status, headerStale, a.header.Get(headerStale))
		}
	}
	const unknown = "7e57c0de-0000-4000-8000-000000000001"
	for _, line := range []string{
		"GET /scoria/v1/verify", "POST /scoria/v1/verify", "GET /scoria/v1/operations/" + unknown, "GET /scoria/v1/operations/" + unknown + "/wait",
		"GET /scoria/v1/operations/" + unknown + "/events", "GET /scoria/v1/operations?marker=" + unknown,
		"POST volumes", "PUT volumes/" + volume, "DELETE volumes/" + volume, "POST volumes/" + volume + "/action", "DELETE volumes/" + unknown,
		"POST /scoria/v1/operations/" + known + "/cancel", "POST /scoria/v1/operations/" + known + "/abandon",
	} {
		a := s.send(request{line: line, body: `{"volume": {"size": 1}}`})
		if a.status != 503 || !strings.Contains(string(a.body), "NATS (somewhere) has not answered for 9s") {
			t.Errorf("%s: %d %s, want 503 and who does not answer", line, a.status, a.body)
		}
		if said := strings.Contains(string(a.body), "Nothing was submitted"); said != !strings.HasPrefix(line, "GET") {
			t.Errorf("%s: %s", line, a.body)
		}
	}
	if after := s.bucket(); after != before {
		t.Errorf("the bucket changed:\n%s\nbefore:\n%s", after, before)
	}
}
