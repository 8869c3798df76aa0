package saga_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/scoria-storage/scoria/saga"
)

// BenchmarkExec is the cost of the executor itself: three steps, a journal in memory.
func BenchmarkExec(b *testing.B) {
	step := func(name string) saga.Step[parcel] {
		return saga.Step[parcel]{Name: name, Undo: saga.Nothing[parcel],
			Do: func(context.Context, saga.Run, *parcel) error { return nil }}
	}
	def := saga.Definition[parcel]{Name: "bench", Version: 1, Steps: []saga.Step[parcel]{step("a"), step("b"), step("c")}}
	var reg saga.Registry
	saga.MustRegister(&reg, def)
	j := saga.NewMemory()
	e := saga.New(j, &reg)
	ctx := context.Background()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		id := saga.ID(fmt.Sprint(n))
		if err := j.Begin(ctx, id, saga.Entry{}); err != nil {
			b.Fatal(err)
		}
		log, err := j.TakeOver(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.Run(ctx, log, "bench", 1, parcel{}); err != nil {
			b.Fatal(err)
		}
	}
}
