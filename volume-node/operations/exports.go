package operations

import (
	"context"
	"fmt"
	"time"

	"github.com/scoria-storage/scoria/saga"
	"github.com/scoria-storage/scoria/volume-node/export"
)

// tellEvery is how often a step says that it waits for the export server.
const tellEvery = 2 * time.Second

// exporter is the node's exporter for one try of a step: while a call is not answered, the step says what it waits for.
func (e *Env) exporter(run saga.Run) export.Exporter { return &toldExporter{e, run} }

type toldExporter struct {
	env *Env
	run saga.Run
}

func (x *toldExporter) Export(ctx context.Context, r export.Request) (export.Connection, error) {
	return awaited(x, func() (export.Connection, error) { return x.env.Exporter.Export(ctx, r) })
}

func (x *toldExporter) Unexport(ctx context.Context, r export.Removal) error {
	_, err := awaited(x, func() (any, error) { return nil, x.env.Exporter.Unexport(ctx, r) })
	return err
}

func (x *toldExporter) Hold(ctx context.Context, volume string) (export.Hold, error) {
	return awaited(x, func() (export.Hold, error) { return x.env.Exporter.Hold(ctx, volume) })
}

func (x *toldExporter) List(ctx context.Context) ([]export.Exported, error) {
	return awaited(x, func() ([]export.Exported, error) { return x.env.Exporter.List(ctx) })
}

func (x *toldExporter) Resize(ctx context.Context, volume string, bytes int64) error {
	_, err := awaited(x, func() (any, error) { return nil, x.env.Exporter.Resize(ctx, volume, bytes) })
	return err
}

// awaited returns what call answers. The waiting is told from the goroutine of the step, as observers want it.
func awaited[T any](x *toldExporter, call func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers, begin, told := make(chan answer, 1), time.Now(), false
	go func() {
		value, err := call()
		answers <- answer{value, err}
	}()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case a := <-answers:
			if told {
				x.run.Waiting("")
			}
			return a.value, a.err
		case <-tick.C:
			told = true
			x.run.Waiting(fmt.Sprintf("waits since %s for the export server of node %s%s, which does not answer", time.Since(begin).Round(time.Second), x.env.NodeName, x.process()))
		}
	}
}

// process names the process of the export server, if one runs and is known.
func (x *toldExporter) process() string {
	server, ok := x.env.Exporter.(interface{ PID() int })
	if !ok {
		return ""
	}
	if pid := server.PID(); pid > 0 {
		return fmt.Sprintf(" (process %d)", pid)
	}
	return ""
}
