package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/scoria-storage/scoria/volume-node/export"
	"github.com/scoria-storage/scoria/volume-node/export/ctl"
)

// maxCall is the largest body of a call, in bytes.
const maxCall = 64 << 10

// control answers calls on the control socket.
type control struct {
	server *Server
	http   http.Server
	ctx    context.Context // ends with the server: calls that stay open end
	stop   func()          // asks the server to end
}

func newControl(ctx context.Context, s *Server, stop func()) *control {
	c := &control{server: s, ctx: ctx, stop: stop}
	mux := http.NewServeMux()
	handle(mux, ctl.CallExport, s.Export)
	handle(mux, ctl.CallUnexport, func(ctx context.Context, r export.Removal) (ctl.Done, error) {
		return ctl.Done{}, s.Unexport(ctx, r)
	})
	handle(mux, ctl.CallList, func(ctx context.Context, _ ctl.Done) (ctl.List, error) {
		list, err := s.List(ctx)
		return ctl.List{Exports: list}, err
	})
	handle(mux, ctl.CallResize, func(ctx context.Context, r ctl.Resize) (ctl.Done, error) {
		return ctl.Done{}, s.Resize(ctx, r.Volume, r.Bytes)
	})
	handle(mux, ctl.CallRelease, func(_ context.Context, r ctl.Held) (ctl.Done, error) {
		return ctl.Done{}, s.release(r.Token)
	})
	handle(mux, ctl.CallHello, func(context.Context, ctl.Done) (ctl.Hello, error) { return hello(), nil })
	handle(mux, ctl.CallShutdown, func(context.Context, ctl.Done) (ctl.Hello, error) {
		s.log.Info("told to shut down")
		c.stop()
		return hello(), nil
	})
	mux.HandleFunc("POST "+ctl.CallHold, c.hold)
	mux.HandleFunc("POST "+ctl.CallWatch, c.watch)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, fmt.Errorf("%w (%s %s)", ctl.ErrUnsupported, r.Method, r.URL.Path))
	})
	c.http = http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: maxCall}
	return c
}

func hello() ctl.Hello { return ctl.Hello{Version: ctl.Version, PID: os.Getpid()} }

func (c *control) serve(l net.Listener) error {
	if err := c.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// close lets calls under way end, for a moment.
func (c *control) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c.http.Shutdown(ctx) != nil {
		_ = c.http.Close()
	}
}

// handle makes f a call with a JSON body and answer.
func handle[In, Out any](mux *http.ServeMux, path string, f func(context.Context, In) (Out, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		in, err := body[In](w, r)
		var out Out
		if err == nil {
			out, err = f(r.Context(), in)
		}
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // the caller has gone if it fails
	})
}

func body[In any](w http.ResponseWriter, r *http.Request) (In, error) {
	var in In
	// All of it is read, to its end: only then does net/http notice when the caller goes.
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCall))
	if err == nil {
		err = json.Unmarshal(data, &in)
	}
	if err != nil {
		return in, fmt.Errorf("%w: body of the call: %w", export.ErrInvalid, err)
	}
	return in, nil
}

func fail(w http.ResponseWriter, err error) {
	p, status := ctl.ProblemOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // the caller has gone if it fails
}

// hold holds a volume for as long as the caller's connection lasts.
func (c *control) hold(w http.ResponseWriter, r *http.Request) {
	in, err := body[ctl.Volume](w, r)
	if err != nil {
		fail(w, err)
		return
	}
	h, err := c.server.hold(r.Context(), in.Volume)
	if err != nil {
		fail(w, err)
		return
	}
	defer c.server.expire(h)
	if !stream(w, ctl.Held{Token: h.token}) {
		return
	}
	select {
	case <-h.ended:
	case <-r.Context().Done():
	case <-c.ctx.Done():
	}
}

// watch lasts until the server ends.
func (c *control) watch(w http.ResponseWriter, r *http.Request) {
	if _, err := body[ctl.Done](w, r); err != nil {
		fail(w, err)
		return
	}
	if !stream(w, hello()) {
		return
	}
	select {
	case <-r.Context().Done():
	case <-c.ctx.Done():
	}
}

// stream sends the first part of an answer that stays open.
func stream(w http.ResponseWriter, v any) bool {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v) == nil && http.NewResponseController(w).Flush() == nil
}
