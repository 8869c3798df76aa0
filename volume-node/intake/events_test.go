package intake_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
	"github.com/scoria-storage/scoria/volume-node/intake"
)

func TestEventsTellHowAnOperationGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := make(chan *nats.Msg, 100)
	conn := w.srv.Conn(t)
	if _, err := conn.ChanSubscribe(messages.EventSubject(project, block.VolumeCreate, opID), got); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	k := w.work(nil)
	w.submit(opID, create(vol1))
	k.await(intake.Ended, 1)
	var all []messages.Operation
	for len(all) == 0 || !all[len(all)-1].Ended {
		var u messages.Update
		if err := messages.Decode((<-got).Data, &u); err != nil {
			t.Fatal(err)
		}
		all = append(all, u.Operation)
	}
	if len(all) != 3 {
		t.Fatalf("%d events %+v, want taken over, first step done, ended", len(all), all)
	}
	if all[0].Step != "reserve" || all[0].Done != 0 || all[0].Worker != "worker-1" || all[0].Resource != string(vol1) {
		t.Errorf("first event %+v", all[0])
	}
	if all[1].Step != "create" || all[1].Done != 1 || all[1].Ended {
		t.Errorf("second event %+v", all[1])
	}
	if last := all[2]; last.Phase != "done" || last.Done != 2 || last.EndedAt.IsZero() {
		t.Errorf("last event %+v", last)
	}
}
