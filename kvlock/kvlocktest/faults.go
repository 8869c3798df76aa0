package kvlocktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/scoria-storage/scoria/kvlock/kvtx"
)

// Fault is what happens to one exchange.
type Fault uint8

const (
	// RequestLost: the request never arrives; nothing is applied.
	RequestLost Fault = iota + 1
	// AnswerLost: the request is applied, or refused, and the answer does not arrive.
	AnswerLost
	// Delayed: the caller is told that there was no answer, and the request arrives late: just before the store's next exchange, such as that
	// of its copy, or when the fault is disarmed.
	Delayed
	// GiveUpBefore: the caller's context ends before the request is sent.
	GiveUpBefore
	// GiveUpAfter: the request is applied, or refused, and the caller's context ends before the answer arrives.
	GiveUpAfter
)

// AllFaults are all of them.
var AllFaults = []Fault{RequestLost, AnswerLost, Delayed, GiveUpBefore, GiveUpAfter}

// String returns the fault's name.
func (f Fault) String() string {
	switch f {
	case RequestLost:
		return "request lost"
	case AnswerLost:
		return "answer lost"
	case Delayed:
		return "request delayed"
	case GiveUpBefore:
		return "caller gives up before"
	case GiveUpAfter:
		return "caller gives up after"
	}
	return fmt.Sprintf("fault(%d)", uint8(f))
}

var errDisturbed = errors.New("disturbed by the test")

// Faults disturbs exchanges of a store: the n-th that matches, or each n-th. Give its Intercept to kvtx.WithInterceptor. The zero
// value disturbs nothing. It is safe for several goroutines.
type Faults struct {
	mu     sync.Mutex
	fault  Fault // 0: not armed, or met
	wait   int   // matching exchanges until the fault
	every  int   // from one fault to the next; 0: there is one
	kinds  []kvtx.Kind
	giveUp context.CancelFunc
	met    int
	late   []func() // Requests that were delayed.
}

// Arm lets the n-th exchange from now on meet the fault, n from 1, counting only those of the kinds if there are any.
// giveUp ends the caller's context; it is called by the GiveUp faults only.
func (f *Faults) Arm(fault Fault, n int, giveUp context.CancelFunc, kinds ...kvtx.Kind) {
	f.arm(fault, n, 0, giveUp, kinds)
}

// ArmEvery lets each n-th exchange from now on meet the fault, n from 2, counting only those of the kinds if there are any.
func (f *Faults) ArmEvery(fault Fault, n int, kinds ...kvtx.Kind) {
	if n < 2 || fault == GiveUpBefore || fault == GiveUpAfter {
		panic(fmt.Sprintf("kvlocktest: %s at every %d. exchange: nothing would ever come through", fault, n))
	}
	f.arm(fault, n, n, nil, kinds)
}

func (f *Faults) arm(fault Fault, n, every int, giveUp context.CancelFunc, kinds []kvtx.Kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.wait, f.every, f.kinds, f.giveUp, f.met = fault, n, every, kinds, giveUp, 0
}

// Disarm takes the fault back, lets arrive what was delayed, and says whether an exchange has met it.
func (f *Faults) Disarm() (met bool) {
	f.mu.Lock()
	f.fault = 0
	late := f.late
	f.late = nil
	f.mu.Unlock()
	for _, arrive := range late {
		arrive()
	}
	return f.Met() > 0
}

// Met is how many exchanges have met the fault that was armed last.
func (f *Faults) Met() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.met
}

// next returns the fault that this exchange meets, 0 for none, and what arrives before it.
func (f *Faults) next(kind kvtx.Kind) (fault Fault, giveUp context.CancelFunc, late []func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	late, f.late = f.late, nil
	if f.fault == 0 || len(f.kinds) > 0 && !slices.Contains(f.kinds, kind) {
		return 0, nil, late
	}
	if f.wait--; f.wait > 0 {
		return 0, nil, late
	}
	fault = f.fault
	f.met++
	if f.wait = f.every; f.every == 0 {
		f.fault = 0
	}
	return fault, f.giveUp, late
}

// Intercept is a kvtx.Interceptor.
func (f *Faults) Intercept(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
	fault, giveUp, late := f.next(call.Kind)
	for _, arrive := range late {
		arrive()
	}
	switch fault {
	case RequestLost:
		return errDisturbed
	case AnswerLost:
		if err := next(ctx); err != nil {
			return err
		}
		return errDisturbed
	case Delayed:
		if call.Kind == kvtx.Read { // It changes nothing when it arrives.
			return errDisturbed
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.late = append(f.late, func() { _ = next(context.WithoutCancel(ctx)) }) // Nobody waits for its answer any more.
		return errDisturbed
	case GiveUpBefore:
		giveUp()
		return errDisturbed
	case GiveUpAfter:
		err := next(ctx)
		giveUp()
		if err != nil {
			return err
		}
		return errDisturbed
	}
	return next(ctx)
}
