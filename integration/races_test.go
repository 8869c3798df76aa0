// Package integration tests the whole product as its users see it: the real binary, real data, real clients, and real kills.
package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/integration/harness"
)

type M = harness.M

// seed of a random test: printed, and taken from the environment to run the same again.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	s := harness.Seed(t)
	t.Logf("seed %d (run it again with SCORIA_SEED=%d)", s, s)
	return rand.New(rand.NewPCG(s, s))
}

// creation is what became of one request to create a volume.
type creation struct {
	status    int
	body      string
	volume    string
	operation string
}

func create(ctx context.Context, s *harness.Stack, fields M) (creation, error) {
	ans, err := s.Do(ctx, http.MethodPost, "/volumes", M{"volume": fields})
	if err != nil {
		return creation{}, err
	}
	var out struct{ Volume harness.Volume }
	if ans.Status == http.StatusAccepted {
		err = json.Unmarshal(ans.Body, &out)
	}
	return creation{ans.Status, string(ans.Body), out.Volume.ID, ans.Operation()}, err
}

// raceRounds is how many rounds each of the thread's races runs.
const raceRounds = 200

// A volume is created from a source whose delete is asked for at the same time. One of the two is refused or comes after
// the other; there is never an accepted volume in error, and never a ghost.
func TestCreateAgainstDeleteOfItsSource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, field, path, class, word string }{
		{"snapshot", "snapshot_id", "/snapshots/", "Invalid snapshot: Snapshot", "Originating snapshot status must be one of 'available' values"},
		{"volume", "source_volid", "/volumes/", "Invalid volume: Volume", "source"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rnd := seed(t)
			s := harness.Up(t, "--backend", "fake=null:delay=2ms", "--quota", "volumes=-1,snapshots=-1,gigabytes=-1")
			base := s.Create(t, M{"size": 1})
			var refusedDelete, refusedCreate, gone, both int
			for round := range raceRounds {
				var source string
				if c.name == "snapshot" {
					source = s.Snapshot(t, base)
				} else {
					source = s.Create(t, M{"size": 1})
				}
				deleteFirst := rnd.IntN(2) == 0
				delay := time.Duration(rnd.IntN(6000)) * time.Microsecond
				created, deleted := race(t, s, M{"size": 1, c.field: source}, c.path+source, deleteFirst, delay)
				switch created.status {
				case http.StatusAccepted:
					if op := s.MustEnd(t, created.operation); op.Resource != created.volume {
						t.Fatalf("round %d: operation of %s, not of %s", round, op.Resource, created.volume)
					}
					if v := s.Get(t, created.volume); v.Status != "available" {
						t.Fatalf("round %d: accepted volume is %s", round, v.Status)
					}
					s.Delete(t, "/volumes/"+created.volume)
				case http.StatusBadRequest:
					refusedCreate++
					if !strings.Contains(created.body, c.word) {
						t.Fatalf("round %d: create refused with %s, want Cinder's words (%q)", round, created.body, c.word)
					}
				case http.StatusNotFound:
					gone++
				default:
					t.Fatalf("round %d: create answered %d: %s", round, created.status, created.body)
				}
				switch deleted.Status {
				case http.StatusAccepted:
					if created.status == http.StatusAccepted {
						both++
					}
					s.MustEnd(t, deleted.Operation())
				case http.StatusBadRequest:
					refusedDelete++
					key, code, text := deleted.Fault()
					if key != "badRequest" || code != 400 || !strings.HasPrefix(text, fmt.Sprintf("%s %s is being read by", c.class, source)) ||
						!strings.Contains(text, "volume.create") || !strings.Contains(text, created.operation) {
						t.Fatalf("round %d: delete refused with %s", round, deleted.Body)
					}
					s.Delete(t, c.path+source)
				default:
					t.Fatalf("round %d: delete answered %d: %s", round, deleted.Status, deleted.Body)
				}
			}
			t.Logf("%d rounds: delete refused %d, create refused %d, source gone %d, both in turn %d", raceRounds, refusedDelete, refusedCreate, gone, both)
			if refusedDelete == 0 || refusedCreate+gone == 0 {
				t.Errorf("the race was not met in both orders")
			}
			s.Idle(t)
			s.VerifyClean(t)
		})
	}
}

func race(t *testing.T, s *harness.Stack, fields M, path string, deleteFirst bool, delay time.Duration) (created creation, deleted *harness.Answer) {
	t.Helper()
	var wg sync.WaitGroup
	var errs [2]error
	pause := func(second bool) {
		if second {
			<-time.After(delay)
		}
	}
	wg.Go(func() {
		pause(deleteFirst)
		created, errs[0] = create(t.Context(), s, fields)
	})
	wg.Go(func() {
		pause(!deleteFirst)
		deleted, errs[1] = s.Do(t.Context(), http.MethodDelete, path, nil)
	})
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return created, deleted
}

// What Cinder lets run at the same time is refused here: extend and revert of a volume that is being cloned.
func TestExtendAndRevertOfASourceThatIsBeingClonedAreRefused(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null:delay=400ms")
	source := s.Create(t, M{"size": 1})
	snapshot := s.Snapshot(t, source)
	clone, err := create(t.Context(), s, M{"size": 1, "source_volid": source})
	if err != nil || clone.status != http.StatusAccepted {
		t.Fatalf("clone: %+v, %v", clone, err)
	}
	for name, action := range map[string]M{
		"extend": {"os-extend": M{"new_size": 2}},
		"revert": {"revert": M{"snapshot_id": snapshot}},
	} {
		ans := s.Must(t, http.StatusBadRequest, http.MethodPost, "/volumes/"+source+"/action", action, nil)
		key, _, text := ans.Fault()
		if key != "badRequest" || !strings.HasPrefix(text, "Invalid volume: Volume "+source+" is being read by") || !strings.Contains(text, clone.operation) {
			t.Errorf("%s refused with %s", name, ans.Body)
		}
	}
	s.MustEnd(t, clone.operation)
	for name, action := range map[string]M{
		"extend": {"os-extend": M{"new_size": 2}},
	} {
		ans := s.Must(t, http.StatusAccepted, http.MethodPost, "/volumes/"+source+"/action", action, nil)
		if op := s.MustEnd(t, ans.Operation()); op.Phase != "done" {
			t.Errorf("%s after the clone: %+v", name, op)
		}
	}
	s.VerifyClean(t)
}

// inParallel sends n requests at the same moment and counts their statuses.
func inParallel(t *testing.T, n int, send func(i int) (*harness.Answer, error)) map[int]int {
	t.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	answers, errs := make([]*harness.Answer, n), make([]error, n)
	for i := range n {
		wg.Go(func() {
			<-start
			answers[i], errs[i] = send(i)
		})
	}
	close(start)
	wg.Wait()
	count := map[int]int{}
	for i := range n {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		count[answers[i].Status]++
	}
	return count
}

func TestQuotaHoldsUnderParallelCreates(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--backend", "fake=null", "--quota", "volumes=10,snapshots=10,gigabytes=1000")
	for round := range 5 {
		count := inParallel(t, 40, func(int) (*harness.Answer, error) {
			return s.Do(t.Context(), http.MethodPost, "/volumes", M{"volume": M{"size": 1}})
		})
		if count[http.StatusAccepted] != 10 || count[http.StatusRequestEntityTooLarge] != 30 {
			t.Fatalf("round %d: statuses %v, want 10 accepted and 30 refused with 413", round, count)
		}
		s.Idle(t)
		s.VerifyClean(t)
		var out struct{ Volumes []harness.Volume }
		s.Must(t, http.StatusOK, http.MethodGet, "/volumes", nil, &out)
		for _, v := range out.Volumes {
			s.Delete(t, "/volumes/"+v.ID)
		}
	}
}

func TestOneOfTwoWins(t *testing.T) {
	t.Parallel()
	s := harness.Up(t, "--quota", "volumes=-1,snapshots=-1,gigabytes=-1")
	connector := M{"host": "n1"}
	for round := range 10 {
		volume := s.Create(t, M{"size": 1})
		attach := func(int) (*harness.Answer, error) {
			return s.Do(t.Context(), http.MethodPost, "/attachments", M{"attachment": M{"volume_uuid": volume, "connector": connector}})
		}
		if count := inParallel(t, 4, attach); count[http.StatusOK] != 1 || count[http.StatusBadRequest] != 3 {
			t.Fatalf("round %d: attach: %v, want one of four", round, count)
		}
		var list struct{ Attachments []struct{ ID string } }
		s.Must(t, http.StatusOK, http.MethodGet, "/attachments?volume_id="+volume, nil, &list)
		if len(list.Attachments) != 1 {
			t.Fatalf("round %d: %d attachments", round, len(list.Attachments))
		}
		// Delete against detach: the delete is refused, or comes after the detach; the volume is never gone under its host.
		count := inParallel(t, 2, func(i int) (*harness.Answer, error) {
			if i == 0 {
				return s.Do(t.Context(), http.MethodDelete, "/attachments/"+list.Attachments[0].ID, nil)
			}
			return s.Do(t.Context(), http.MethodDelete, "/volumes/"+volume, nil)
		})
		if count[http.StatusOK] != 1 {
			t.Fatalf("round %d: detach against delete: %v", round, count)
		}
		s.Idle(t)
		if count[http.StatusAccepted] == 0 {
			count = inParallel(t, 4, func(int) (*harness.Answer, error) {
				return s.Do(t.Context(), http.MethodDelete, "/volumes/"+volume, nil)
			})
			if count[http.StatusAccepted] != 1 {
				t.Fatalf("round %d: delete: %v, want one of four", round, count)
			}
			s.Idle(t)
		}
	}
	s.VerifyClean(t)
}
