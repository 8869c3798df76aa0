package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

const (
	onConflict = "X-Scoria-On-Conflict"
	inLine     = "queue"
)

// A volume is created from a snapshot, and the deletion of the snapshot is asked for at the same time, to wait if it has to: it always
// succeeds. The create is done, or refused, or, if it was to wait, too, ends with nothing left.
func TestADeletionThatMayWaitComesAfterTheReaders(t *testing.T) {
	t.Parallel()
	rnd := seed(t)
	s := harness.Up(t, "--backend", "fake=null:delay=2ms", "--quota", "volumes=-1,snapshots=-1,gigabytes=-1")
	base := s.Create(t, M{"size": 1})
	count := map[string]int{}
	for round := range raceRounds {
		snapshot := s.Snapshot(t, base)
		deleteFirst, delay := rnd.IntN(2) == 0, time.Duration(rnd.IntN(6000))*time.Microsecond
		var header []string
		if rnd.IntN(2) == 0 {
			header = []string{onConflict, inLine}
		}
		var created, deleted *harness.Answer
		var errs [2]error
		var wg sync.WaitGroup
		pause := func(second bool) {
			if second {
				<-time.After(delay)
			}
		}
		wg.Go(func() {
			pause(deleteFirst)
			created, errs[0] = s.Do(t.Context(), http.MethodPost, "/volumes", M{"volume": M{"size": 1, "snapshot_id": snapshot}}, header...)
		})
		wg.Go(func() {
			pause(!deleteFirst)
			deleted, errs[1] = s.Do(t.Context(), http.MethodDelete, "/snapshots/"+snapshot, nil, onConflict, inLine)
		})
		wg.Wait()
		if errs[0] != nil || errs[1] != nil || deleted.Status != http.StatusAccepted {
			t.Fatalf("round %d: %v, delete answered %d: %s", round, errs, deleted.Status, deleted.Body)
		}
		if op := s.MustEnd(t, deleted.Operation()); op.Phase != "done" {
			t.Fatalf("round %d: the deletion is %s: %s", round, op.Phase, op.Error)
		}
		switch created.Status {
		case http.StatusBadRequest, http.StatusNotFound:
			count["refused"]++
			continue
		case http.StatusAccepted:
		default:
			t.Fatalf("round %d: create answered %d: %s", round, created.Status, created.Body)
		}
		var out struct{ Volume harness.Volume }
		if err := json.Unmarshal(created.Body, &out); err != nil {
			t.Fatal(err)
		}
		op, err := s.Wait(t.Context(), created.Operation())
		if err != nil {
			t.Fatal(err)
		}
		count[op.Phase]++
		switch {
		case op.Phase == "done":
			if v := s.Get(t, out.Volume.ID); v.Status != "available" {
				t.Fatalf("round %d: accepted volume is %s", round, v.Status)
			}
			s.Delete(t, "/volumes/"+out.Volume.ID)
		case op.Phase == "undone" && header != nil && strings.Contains(op.Error, "Snapshot "+snapshot+" could not be found."):
			if ans, err := s.Do(t.Context(), http.MethodGet, "/volumes/"+out.Volume.ID, nil); err != nil || ans.Status != http.StatusNotFound {
				t.Fatalf("round %d: the volume of a create that waited in vain: %d %s, %v; want nothing left", round, ans.Status, ans.Body, err)
			}
		default:
			t.Fatalf("round %d: the create is %s: %s", round, op.Phase, op.Error)
		}
	}
	t.Logf("of %d creates: %v", raceRounds, count)
	if count["done"] == 0 || count["refused"] == 0 || count["undone"] == 0 {
		t.Errorf("the race was not met in all its orders: %v", count)
	}
	s.Idle(t)
	s.VerifyClean(t)
}

// 200 operations wait for one volume, and end in the order in which they were accepted: each makes the volume larger by one, which in
// another order is refused.
func TestOperationsThatWaitForOneVolumeEndInOrder(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null:delay=30ms", "--quota", "volumes=-1,snapshots=-1,gigabytes=-1")
	volume := s.Create(t, M{"size": 1})
	const extends = 200
	var ids []string
	for i := range extends {
		ans, err := s.Do(t.Context(), http.MethodPost, "/volumes/"+volume+"/action", M{"os-extend": M{"new_size": i + 2}}, onConflict, inLine)
		if err != nil || ans.Status != http.StatusAccepted {
			t.Fatalf("extend %d: %v, %+v", i, err, ans)
		}
		ids = append(ids, ans.Operation())
	}
	if op := operation(t, s.API, ids[extends-1]); op.Phase != "queued" || op.Waits.Place < 50 || len(op.Waits.For) < 50 {
		t.Errorf("the last one is %s and waits for %+v", op.Phase, op.Waits)
	}
	out, errs, status := s.CLI(t, "operation", "show", ids[extends-1])
	if status != 0 || !strings.Contains(out, "place in line") || !strings.Contains(out, "volume.extend, operation ") {
		t.Errorf("operation show: status %d\n%s%s", status, out, errs)
	}
	for i, id := range ids {
		if op := s.MustEnd(t, id); op.Phase != "done" {
			t.Fatalf("extend %d is %s: %s", i, op.Phase, op.Error)
		}
	}
	if v := s.Get(t, volume); v.Size != extends+1 {
		t.Errorf("the volume has %d GiB", v.Size)
	}
	s.Idle(t)
	s.VerifyClean(t)
}

// A request that waits gives up at its deadline, or when it is canceled, and nothing of it stays.
func TestAnOperationGivesUpWaiting(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null:delay=3s", "--quota", "volumes=3,snapshots=1,gigabytes=10")
	var out struct{ Volume harness.Volume }
	s.Must(t, http.StatusAccepted, http.MethodPost, "/volumes", M{"volume": M{"size": 1}}, &out) // three seconds
	volume := out.Volume.ID
	submit := func(policy, path string, body M) string {
		t.Helper()
		ans, err := s.Do(t.Context(), http.MethodPost, path, body, onConflict, policy)
		if err != nil || ans.Status != http.StatusAccepted {
			t.Fatalf("%s: %v, %+v", path, err, ans)
		}
		return ans.Operation()
	}
	late := submit("queue;deadline=0.3", "/snapshots", M{"snapshot": M{"volume_id": volume}})
	if op := settled(t, s.API, late); op.Phase != "void" || op.Error != "gave up waiting: the deadline of its wait has passed" {
		t.Errorf("the snapshot with a deadline is %s: %s", op.Phase, op.Error)
	}
	clone := submit(inLine, "/volumes", M{"volume": M{"size": 8, "source_volid": volume}}) // with it 9 of 10 GiB are used
	if stdout, stderr, status := s.CLI(t, "operation", "cancel", clone); status != 0 {
		t.Errorf("operation cancel: status %d: %s%s", status, stdout, stderr)
	}
	if op := settled(t, s.API, clone); op.Phase != "void" || !strings.HasPrefix(op.Error, "gave up waiting: canceled by ") {
		t.Errorf("the canceled clone is %s: %s", op.Phase, op.Error)
	}
	// What they were charged can be had again.
	again := submit(inLine, "/volumes", M{"volume": M{"size": 8, "source_volid": volume}})
	snapshot := submit("queue;deadline=60", "/snapshots", M{"snapshot": M{"volume_id": volume}})
	s.MustEnd(t, again)
	s.MustEnd(t, snapshot)
	s.Idle(t)
	s.VerifyClean(t)
}

// settled waits until an operation has ended, however.
func settled(t *testing.T, a *harness.API, id string) harness.Operation {
	t.Helper()
	op, err := a.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return op
}
