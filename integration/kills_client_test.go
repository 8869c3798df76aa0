package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/scoria-storage/scoria/integration/harness"
)

// disk is a volume as its client believes it to be.
type disk struct {
	id      string
	gib     int64
	content harness.Content
	shots   []*shot // oldest first
	// attachment and host are set while it is attached.
	attachment string
	host       *harness.Host
}

// shot is a snapshot as its client believes it to be.
type shot struct {
	id, volume string
	gib        int64
	content    harness.Content
}

// tenant does one thing after the other, with volumes that nobody else changes, so that it knows what must come of it.
// The sources are everybody's, and nobody changes them.
type tenant struct {
	c      *campaign
	rnd    *rand.Rand
	disks  []*disk
	gone   []string // paths of what was deleted
	golden *disk
	shared *shot
}

// request is one request with its key, and what became of it.
type request struct {
	key, method, path string
	body              any
}

// answered is a request that was answered in the end.
type answered struct {
	*harness.Answer
	request *request
}

func (a *answered) refusal() error {
	return fmt.Errorf("%s %s answered %d: %s", a.request.method, a.request.path, a.Status, a.Body)
}

// ask sends a request until it is answered, with the same key each time.
func (k *tenant) ask(ctx context.Context, method, path string, body any) (*answered, error) {
	r := &request{key: uuid.NewString(), method: method, path: path, body: body}
	k.c.open(r)
	for {
		ans, err := k.c.answer(ctx, r)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%s %s is not answered: %w (last: %v)", method, path, context.Cause(ctx), err)
		case err != nil:
			if err := k.findOut(ctx, r); err != nil {
				return nil, err
			}
		case ans.Status == http.StatusServiceUnavailable: // it starts, or the operation goes on
			pauseBriefly(ctx)
		case ans.Status >= 500:
			return nil, (&answered{ans, r}).refusal()
		default:
			return &answered{ans, r}, nil
		}
	}
}

// findOut waits until the API answers again, and learns whether a request whose answer is lost was accepted.
func (k *tenant) findOut(ctx context.Context, r *request) error {
	_, found, err := k.c.lookup(ctx, r.key)
	switch {
	case err != nil:
	case found:
		k.c.count(&k.c.acceptedInTheDark)
	default:
		k.c.count(&k.c.neverArrived)
	}
	return err
}

// lookup asks for an operation until there is an answer.
func (c *campaign) lookup(ctx context.Context, id string) (op harness.Operation, found bool, err error) {
	for {
		ans, err := c.Do(ctx, http.MethodGet, "/scoria/v1/operations/"+id, nil)
		switch {
		case ctx.Err() != nil:
			return op, false, fmt.Errorf("operation %s: no answer: %w", id, context.Cause(ctx))
		case err != nil || ans.Status == http.StatusServiceUnavailable:
			pauseBriefly(ctx)
			continue
		case ans.Status == http.StatusNotFound:
			return op, false, nil
		case ans.Status != http.StatusOK:
			return op, false, fmt.Errorf("operation %s: status %d: %s", id, ans.Status, ans.Body)
		}
		var out struct{ Operation harness.Operation }
		err = json.Unmarshal(ans.Body, &out)
		return out.Operation, true, err
	}
}

// pauseBriefly is between two tries of something that nobody can be waited for.
func pauseBriefly(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}

// begin asks for an operation that must be accepted, and now and then repeats the request that was answered.
func (k *tenant) begin(ctx context.Context, method, path string, body any, out any) (*answered, error) {
	ans, err := k.ask(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	if ans.Status != http.StatusAccepted {
		return nil, ans.refusal()
	}
	if ans.Operation() != ans.request.key {
		return nil, fmt.Errorf("%s %s: operation %q, want the key %q", method, path, ans.Operation(), ans.request.key)
	}
	if k.rnd.IntN(8) == 0 {
		if err := k.repeat(ctx, ans); err != nil {
			return nil, err
		}
	}
	if out != nil {
		err = json.Unmarshal(ans.Body, out)
	}
	return ans, err
}

// repeat sends an accepted request once more: it is the same operation on the same resource.
func (k *tenant) repeat(ctx context.Context, ans *answered) error {
	r := ans.request
	again, err := k.c.answer(ctx, r)
	if err != nil || again.Status == http.StatusServiceUnavailable {
		return nil // killed meanwhile
	}
	if again.Status != http.StatusAccepted || again.Operation() != ans.Operation() || idOf(again.Body) != idOf(ans.Body) {
		return fmt.Errorf("%s %s repeated: %d, operation %s: %s; at first %s: %s", r.method, r.path, again.Status, again.Operation(), again.Body, ans.Operation(), ans.Body)
	}
	k.c.count(&k.c.repeated)
	return nil
}

// idOf is the ID of the resource that an answer tells of; "" if it tells of none.
func idOf(body []byte) string {
	var out map[string]struct{ ID string }
	if json.Unmarshal(body, &out) != nil {
		return ""
	}
	for _, r := range out {
		return r.ID
	}
	return ""
}

// end waits until an accepted operation has ended, as it must: done.
func (k *tenant) end(ctx context.Context, ans *answered) error {
	id := ans.request.key
	for {
		op, err := k.c.Wait(ctx, id)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("operation %s of %s %s has not ended: %w", id, ans.request.method, ans.request.path, context.Cause(ctx))
		case err != nil:
			pauseBriefly(ctx)
		case op.Phase == "done":
			k.c.close(ans.request, op)
			return nil
		default:
			return fmt.Errorf("operation %s (%s of %s) is %s at step %s: %s", id, op.Kind, op.Resource, op.Phase, op.Step, op.Error)
		}
	}
}

// refused asks for what must be refused with the status, and then with everything as before.
func (k *tenant) refused(ctx context.Context, status int, method, path string, body any) error {
	ans, err := k.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	if ans.Status != status {
		return ans.refusal()
	}
	k.c.close(ans.request, harness.Operation{})
	return nil
}
