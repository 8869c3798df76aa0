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
	// GiveUpBefore: the caller's context ends before the request is sent.
	GiveUpBefore
	// GiveUpAfter: the request is applied, or refused, and the caller's context ends before the answer arrives.
	GiveUpAfter
)

// AllFaults are all of them.
var AllFaults = []Fault{RequestLost, AnswerLost, GiveUpBefore, GiveUpAfter}

// String returns the fault's name.
func (f Fault) String() string {
	switch f {
	case RequestLost:
		return "request lost"
	case AnswerLost:
		return "answer lost"
	case GiveUpBefore:
		return "caller gives up before"
	case GiveUpAfter:
		return "caller gives up after"
	}
	return fmt.Sprintf("fault(%d)", uint8(f))
}

var errDisturbed = errors.New("disturbed by the test")

// Faults disturbs one exchange of a store: the n-th that matches. Give its Intercept to kvtx.WithInterceptor. The zero
// value disturbs nothing. It is safe for several goroutines.
type Faults struct {
	mu     sync.Mutex
	fault  Fault // 0: not armed, or met
	wait   int   // matching exchanges until the fault
	kinds  []kvtx.Kind
	giveUp context.CancelFunc
	met    bool
}

// Arm lets the n-th exchange from now on meet the fault, n from 1, counting only those of the kinds if there are any.
// giveUp ends the caller's context; it is called by the GiveUp faults only.
func (f *Faults) Arm(fault Fault, n int, giveUp context.CancelFunc, kinds ...kvtx.Kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.wait, f.kinds, f.giveUp, f.met = fault, n, kinds, giveUp, false
}

// Disarm takes the fault back and says whether an exchange has met it.
func (f *Faults) Disarm() (met bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = 0
	return f.met
}

// next returns the fault that this exchange meets, 0 for none.
func (f *Faults) next(kind kvtx.Kind) (Fault, context.CancelFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == 0 || len(f.kinds) > 0 && !slices.Contains(f.kinds, kind) {
		return 0, nil
	}
	if f.wait--; f.wait > 0 {
		return 0, nil
	}
	fault := f.fault
	f.fault, f.met = 0, true
	return fault, f.giveUp
}

// Intercept is a kvtx.Interceptor.
func (f *Faults) Intercept(ctx context.Context, call kvtx.Call, next func(context.Context) error) error {
	fault, giveUp := f.next(call.Kind)
	switch fault {
	case RequestLost:
		return errDisturbed
	case AnswerLost:
		if err := next(ctx); err != nil {
			return err
		}
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
