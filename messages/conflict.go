package messages

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// OnConflict says what becomes of a request that conflicts with other operations: it is refused, or it waits in line. It is written
// "refuse" (or nothing), "queue", or "queue;deadline=SECONDS".
type OnConflict struct {
	Queue bool
	// Wait is how long it waits at most; zero: for as long as it takes.
	Wait time.Duration
}

// maxQueueWait bounds OnConflict.Wait: ten years.
const maxQueueWait = 10 * 365 * 24 * time.Hour

// ParseOnConflict reads what a client wrote. The error is an *Error that names the field on_conflict.
func ParseOnConflict(s string) (OnConflict, error) {
	policy, rest, more := strings.Cut(strings.TrimSpace(s), ";")
	switch policy = strings.TrimSpace(policy); {
	case policy == "" && !more, policy == "refuse" && !more:
		return OnConflict{}, nil
	case policy == "queue" && !more:
		return OnConflict{Queue: true}, nil
	case policy != "queue":
		return OnConflict{}, fieldError("on_conflict", "%q is not one of 'refuse', 'queue', 'queue;deadline=SECONDS'", clip(s))
	}
	name, value, ok := strings.Cut(strings.TrimSpace(rest), "=")
	seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if !ok || strings.TrimSpace(name) != "deadline" || err != nil || math.IsNaN(seconds) {
		return OnConflict{}, fieldError("on_conflict", "%q: after 'queue;' stands deadline=SECONDS", clip(s))
	}
	if seconds <= 0 || seconds > maxQueueWait.Seconds() {
		return OnConflict{}, fieldError("on_conflict", "the deadline of %v seconds is not above 0 and at most %.0f", seconds, maxQueueWait.Seconds())
	}
	return OnConflict{Queue: true, Wait: time.Duration(seconds * float64(time.Second))}, nil
}

// String is how it is written.
func (o OnConflict) String() string {
	switch {
	case !o.Queue:
		return "refuse"
	case o.Wait == 0:
		return "queue"
	}
	return "queue;deadline=" + strconv.FormatFloat(o.Wait.Seconds(), 'f', -1, 64)
}
