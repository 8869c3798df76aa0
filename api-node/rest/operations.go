package rest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/scoria-storage/scoria/api-node/admit"
	"github.com/scoria-storage/scoria/api-node/view"
	"github.com/scoria-storage/scoria/kvlock"
	"github.com/scoria-storage/scoria/messages"
	"github.com/scoria-storage/scoria/messages/block"
)

const (
	// maxOperations is the largest and the default page of operations.
	maxOperations = 1000
	// maxLongPoll bounds the wait for the end of an operation in one request.
	maxLongPoll = messages.MaxWait
	// verifyWait bounds a verification.
	verifyWait = 5 * time.Minute
	// followWait bounds one stream of events; the client connects again.
	followWait = time.Hour
	// keepAlive is how often a stream says that it is alive.
	keepAlive = 15 * time.Second
)

// operationView is an operation in the form of Scoria's own calls: what package messages says, and more for operators.
type operationView struct {
	messages.Operation
	Backend   string     `json:"backend,omitempty"`
	RequestID string     `json:"request_id,omitempty"`
	StepSince *time.Time `json:"step_since,omitempty"`
	Tries     int        `json:"failed_tries,omitempty"`
	// Pivoted: nothing is undone any more.
	Pivoted bool        `json:"past_point_of_no_return,omitempty"`
	Cancel  *cancelView `json:"cancel,omitempty"`
	Audit   []auditView `json:"audit,omitempty"`
}

type cancelView struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

type auditView struct {
	Action string    `json:"action"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	Phase  string    `json:"phase"`
	Worker string    `json:"worker,omitempty"`
}

// operationJSON shows an operation with what it waits for.
func (c *call) operationJSON(op *view.Operation) operationView {
	v := showOperation(op, c.reader().Waits(op)[op.ID])
	v.StepWaits = cmp.Or(v.StepWaits, c.unserved(op))
	return v
}

func showOperation(op *view.Operation, waits *messages.Waits) operationView {
	v := operationView{Operation: op.Operation, Backend: op.Backend, RequestID: op.RequestID, Tries: op.Tries, Pivoted: op.Pivoted}
	v.Waits = waits
	if !op.StepSince.IsZero() {
		v.StepSince = &op.StepSince
	}
	if op.Cancel != nil {
		v.Cancel = &cancelView{op.Cancel.By, op.Cancel.At}
	}
	for _, a := range op.Audit {
		v.Audit = append(v.Audit, auditView{a.Action, a.Reason, a.At, a.Phase.String(), a.Worker})
	}
	return v
}

// operationOf looks the operation of the path up.
func (c *call) operationOf() (*view.Operation, error) { return c.visible(c.r.PathValue("id")) }

// visible looks an operation up, if the caller may see it.
func (c *call) visible(id string) (*view.Operation, error) {
	op, err := c.lookup(block.OperationID(id))
	switch {
	case errors.Is(err, view.ErrNotFound) || err == nil && !c.mine(op.Project):
		return nil, messages.OperationNotFound(block.OperationID(id))
	case err != nil:
		return nil, newFault(http.StatusServiceUnavailable, "Operation %s could not be looked up: %v", clip(id), err)
	}
	return op, nil
}

// operationFilter are the parameters by which operations are listed; empty ones let all pass.
type operationFilter struct {
	project, kind, phase, resource, marker string
	live                                   bool
	limit                                  int
}

func (c *call) operationFilter() (operationFilter, error) {
	f := operationFilter{project: c.who.Project, limit: maxOperations}
	values, err := c.params()
	if err != nil {
		return f, err
	}
	for name := range values {
		v := values.Get(name)
		switch name {
		case "project":
			if f.project = v; block.CheckToken(v) != nil {
				return f, badRequest("project: %s is no ID of a project; all_projects=true lists those of all", pyRepr(clip(v)))
			}
		case "all_projects":
			all, err := boolParam(name, v)
			if err != nil {
				return f, err
			}
			if all && !c.who.Admin {
				return f, newFault(http.StatusForbidden, "Only an admin may list the operations of all projects.")
			}
			if all {
				f.project = ""
			}
		case "kind":
			f.kind = v
			if v != "" && !block.Kind(v).Valid() {
				return f, badRequest("kind: %s is not one of %v", pyRepr(clip(v)), block.Kinds())
			}
		case "phase":
			f.phase = v
			if v != "" && !slices.Contains(messages.Phases(), v) {
				return f, badRequest("phase: %s is not one of %v", pyRepr(clip(v)), messages.Phases())
			}
		case "resource":
			f.resource = v
		case "marker":
			f.marker = v
		case "live":
			if f.live, err = boolParam(name, v); err != nil {
				return f, err
			}
		case "limit":
			n, ok := pyInt(v)
			if !ok || n < 1 {
				return f, badRequest("limit: %s is not a number above 0", pyRepr(clip(v)))
			}
			f.limit = min(n, maxOperations)
		default:
			return f, badRequest("There is no parameter %s: want project, all_projects, kind, phase, resource, live, limit or marker.", pyRepr(clip(name)))
		}
	}
	if f.project != "" && !c.mine(f.project) {
		return f, newFault(http.StatusForbidden, "Only an admin may list the operations of another project.")
	}
	return f, nil
}

func (f *operationFilter) keeps(op *view.Operation) bool {
	return (f.kind == "" || string(op.Kind) == f.kind) && (f.phase == "" || op.Phase == f.phase) &&
		(f.resource == "" || op.Resource == f.resource) && (!f.live || !op.Ended)
}

func (c *call) listOperations() error {
	f, err := c.operationFilter()
	if err != nil {
		return err
	}
	var marker *view.Operation
	if f.marker != "" {
		if marker, err = c.visible(f.marker); err != nil {
			return err
		}
	}
	out := struct {
		Operations []operationView `json:"operations"`
		Next       string          `json:"next,omitempty"`
	}{Operations: []operationView{}}
	var page []*view.Operation
	for op := range c.reader().Operations(f.project) {
		if marker != nil && !olderOperation(op, marker) || !f.keeps(op) {
			continue
		}
		if len(page) == f.limit {
			out.Next = string(page[f.limit-1].ID)
			break
		}
		page = append(page, op)
	}
	waits := c.reader().Waits(page...)
	for _, op := range page {
		out.Operations = append(out.Operations, showOperation(op, waits[op.ID]))
	}
	return c.replyJSON(http.StatusOK, out)
}

// olderOperation reports whether a comes after b in a list.
func olderOperation(a, b *view.Operation) bool {
	if n := a.Submitted.Compare(b.Submitted); n != 0 {
		return n < 0
	}
	return a.ID < b.ID
}

func (c *call) replyOperation(status int, op *view.Operation) error {
	return c.replyJSON(status, map[string]operationView{"operation": c.operationJSON(op)})
}

func (c *call) showOperation() error {
	op, err := c.operationOf()
	if err != nil {
		return err
	}
	return c.replyOperation(http.StatusOK, op)
}

// waitOperation answers when the operation has ended or is stuck, or when the time is over: how it stands then.
func (c *call) waitOperation() error {
	op, err := c.operationOf()
	if err != nil {
		return err
	}
	values, err := c.params()
	if err != nil {
		return err
	}
	timeout := maxLongPoll / 2
	if s, ok := param(values, "timeout"); ok {
		if timeout, err = time.ParseDuration(s); err != nil || timeout < 0 {
			return badRequest("timeout: %s is not a duration such as 30s", pyRepr(clip(s)))
		}
		timeout = min(timeout, maxLongPoll)
	}
	if !op.Settled() && timeout > 0 {
		ctx, cancel := c.longWait(timeout)
		defer cancel()
		ended, err := c.reader().WaitEnded(ctx, op.ID)
		if err == nil {
			return c.replyOperation(http.StatusOK, ended)
		}
		if op, err = c.operationOf(); err != nil {
			return err
		}
	}
	return c.replyOperation(http.StatusOK, op)
}

// followOperation sends each state of the operation as an event.
func (c *call) followOperation() error {
	op, err := c.operationOf()
	if err != nil {
		return err
	}
	ctx, cancel := c.longWait(followWait)
	defer cancel()
	h := c.header()
	h["Content-Type"] = []string{"text/event-stream"}
	h["Cache-Control"] = []string{"no-store"}
	c.WriteHeader(http.StatusOK)
	s := stream{c: c, rc: http.NewResponseController(c.ResponseWriter)}
	states, stop := iter.Pull2(c.changes(ctx, op.ID))
	defer stop()
	for {
		next, err, ok := states()
		switch {
		case !ok || errors.Is(err, view.ErrNotFound):
			return nil
		case errors.Is(err, errAlive):
			err = s.write(": still here\n\n")
		case err == nil:
			err = s.event(next)
		}
		if err != nil || next != nil && next.Settled() {
			return nil // nobody listens any more, or nothing more will come
		}
	}
}

// errAlive stands between two states when none came for a while.
var errAlive = errors.New("nothing new")

// changes is Follow with a sign of life now and then.
func (c *call) changes(ctx context.Context, id block.OperationID) iter.Seq2[*view.Operation, error] {
	return func(yield func(*view.Operation, error) bool) {
		type item struct {
			op  *view.Operation
			err error
		}
		ctx, cancel := context.WithCancel(ctx)
		items, ended := make(chan item), make(chan struct{})
		go func() {
			defer close(ended)
			for op, err := range c.reader().Follow(ctx, id) {
				select {
				case items <- item{op, err}:
				case <-ctx.Done():
					return
				}
			}
		}()
		defer func() { cancel(); <-ended }()
		tick := time.NewTicker(keepAlive)
		defer tick.Stop()
		for {
			select {
			case i := <-items:
				if !yield(i.op, i.err) || i.err != nil {
					return
				}
			case <-tick.C:
				if !yield(nil, errAlive) {
					return
				}
			case <-ended:
				return
			}
		}
	}
}

// stream writes server-sent events.
type stream struct {
	c  *call
	rc *http.ResponseController
}

func (s *stream) event(op *view.Operation) error {
	data, err := json.Marshal(map[string]operationView{"operation": s.c.operationJSON(op)})
	if err != nil {
		return err
	}
	return s.write("event: operation\ndata: " + string(data) + "\n\n")
}

func (s *stream) write(text string) error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(writeMargin)); err != nil {
		return err
	}
	if _, err := s.c.Write([]byte(text)); err != nil {
		return err
	}
	return s.rc.Flush()
}

func (c *call) cancelOperation() error  { return c.operate(c.api.cfg.Submitter.Cancel) }
func (c *call) resumeOperation() error  { return c.operate(c.api.cfg.Submitter.Resume) }
func (c *call) abandonOperation() error { return c.operate(c.api.cfg.Submitter.Abandon) }

// operate does what an operator asks of an operation. What reason that needs is for admission to say.
func (c *call) operate(do func(context.Context, admit.Caller, block.OperationID, string) error) error {
	body, err := c.ownBody()
	if err != nil {
		return err
	}
	for name, v := range body {
		if _, ok := v.(string); name != "reason" || !ok {
			return badRequest("The body is {\"reason\": \"text\"}.")
		}
	}
	reason := text(body, "reason")
	op, err := c.operationOf()
	if err != nil {
		return err
	}
	if err := do(c.r.Context(), c.caller(), op.ID, reason); err != nil {
		return err
	}
	c.setOperation(op.ID)
	if op, err = c.operationOf(); err != nil {
		return err
	}
	return c.replyOperation(http.StatusAccepted, op)
}

// releasedBy says in words what will release the locks of an operation.
func releasedBy(op *view.Operation) string {
	switch {
	case op.Ended:
		return "it has ended: the entry is a corruption; see scoria verify"
	case op.Stuck():
		return "an operator: scoria operation resume " + string(op.ID) + ", or abandon with --reason"
	case op.Phase == kvlock.Void.String():
		return "an operator: it was broken, and its fence is not raised yet; scoria lock break with --reason goes on with that, scoria operation abandon " + string(op.ID) + " does without"
	case op.Phase == kvlock.Granted.String():
		return "its end; no worker has begun with it yet: the volume nodes of backend " + op.Backend + " take it over"
	case op.Phase == kvlock.Undoing.String():
		return "its end, once what it did is undone (step " + op.Step + "); if its worker dies, another one takes it over"
	case op.Cancel != nil:
		return "its end; " + op.Cancel.By + " asked that it ends early, which its worker will see after step " + op.Step
	}
	return "its end, after step " + op.Step + " and what follows; if its worker dies, another one takes it over"
}
