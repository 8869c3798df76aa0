package saga_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/scoria-storage/scoria/saga"
)

// shelf stands for a system outside: it has things by name.
var shelf = make(map[string]bool)

type parcel struct {
	Box   string `msgpack:"box"`
	Label string `msgpack:"label"`
}

// packing names a box, takes it, and prints its label; a parcel for nowhere has no label.
var packing = saga.Definition[parcel]{
	Name: "parcel.pack", Version: 1,
	Steps: []saga.Step[parcel]{
		{
			Name: "name", // in the state before the thing is in the world
			Do: func(_ context.Context, run saga.Run, s *parcel) error {
				s.Box = "box-" + string(run.ID)
				return nil
			},
			Undo: saga.Nothing[parcel],
		},
		{
			Name: "take",
			Do:   func(_ context.Context, _ saga.Run, s *parcel) error { shelf[s.Box] = true; return nil },
			Undo: func(_ context.Context, _ saga.Run, s parcel) error { delete(shelf, s.Box); return nil },
		},
		{
			Name: "label",
			Do: func(_ context.Context, _ saga.Run, s *parcel) error {
				if s.Label == "" {
					return saga.Permanent(errors.New("no address")) // trying again will not heal it
				}
				return nil
			},
			Undo: saga.Nothing[parcel],
		},
	},
}

func ExampleExec() {
	ctx := context.Background()
	e := saga.New(saga.NewMemory(), &saga.Registry{})

	res, err := saga.Exec(ctx, e, packing, "p1", parcel{Label: "to Ann"})
	fmt.Println(res.Status.Phase, err, shelf)

	_, err = saga.Exec(ctx, e, packing, "p2", parcel{})
	fmt.Println(err)
	fmt.Println(errors.Is(err, saga.ErrUndone), shelf)
	// Output:
	// done <nil> map[box-p1:true]
	// run p2 was undone: label: no address
	// true map[box-p1:true]
}

// A worker goes on with what another one left behind.
func ExampleExecutor_Resume() {
	ctx := context.Background()
	var reg saga.Registry
	saga.MustRegister(&reg, saga.Definition[parcel]{
		Name: "parcel.send", Version: 1,
		Steps: []saga.Step[parcel]{
			{Name: "weigh", Do: say("weigh"), Undo: saga.Nothing[parcel]},
			{Name: "send", Do: say("send"), Pivot: true}, // cannot be taken back
			{Name: "file", Do: say("file")},              // tried until it succeeds
		},
	})
	journal := saga.NewMemory()

	// The first worker dies after its first step.
	first := saga.New(journal, &reg, saga.WithAround(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		if c.Step.Name == "send" {
			return saga.Leave(errors.New("power is off"))
		}
		return next(ctx)
	}))
	if err := journal.Begin(ctx, "p3", saga.Entry{}); err != nil {
		fmt.Println(err)
	}
	log, err := journal.TakeOver(ctx, "p3")
	if err != nil {
		fmt.Println(err)
	}
	_, err = first.Run(ctx, log, "parcel.send", 1, parcel{})
	fmt.Println(err)

	second := saga.New(journal, &reg)
	for id, err := range journal.Open(ctx) {
		st, rerr := second.Resume(ctx, id, "the next worker")
		fmt.Println(st.Phase, err, rerr)
	}
	// Output:
	// weigh
	// run p3, step send: power is off
	// send
	// file
	// done <nil> <nil>
}

func say(what string) func(context.Context, saga.Run, *parcel) error {
	return func(context.Context, saga.Run, *parcel) error {
		_, err := fmt.Fprintln(os.Stdout, what)
		return err
	}
}

// A record change that is staged is committed together with the completion of its step, exactly once.
func ExampleRun() {
	room := 1
	reserve := saga.MemoryWrite{
		Refuse: func() error {
			if room == 0 {
				return saga.Permanent(errors.New("the shelf is full"))
			}
			return nil
		},
		Apply: func() { room-- },
	}
	def := saga.Definition[parcel]{
		Name: "parcel.reserve", Version: 1,
		Steps: []saga.Step[parcel]{{
			Name: "reserve",
			Do:   func(_ context.Context, run saga.Run, _ *parcel) error { run.Stage(reserve); return nil },
			Undo: saga.Nothing[parcel],
		}},
	}
	e := saga.New(saga.NewMemory(), &saga.Registry{})
	for _, id := range []saga.ID{"p1", "p2"} {
		_, err := saga.Exec(context.Background(), e, def, id, parcel{})
		fmt.Println(room, err)
	}
	// Output:
	// 0 <nil>
	// 0 run p2 was undone: reserve: the shelf is full
}
