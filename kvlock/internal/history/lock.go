package history

import (
	"slices"
	"strconv"
	"strings"

	"github.com/scoria-storage/scoria/kvlock"
)

// Verb is what was done to a lock.
type Verb string

// The verbs.
const (
	Take      Verb = "take"
	Give      Verb = "give back"
	Downgrade Verb = "downgrade" // from exclusive to shared
	Refuse    Verb = "refuse"    // because of those who hold it
)

// Lock is an event of one key.
type Lock struct {
	Verb    Verb
	Owner   string
	Mode    kvlock.Mode // of Take and Refuse: wanted
	Holders string      // of Refuse: see Holders
}

// Holders is how a [Lock] names holders.
func Holders(owners []string) string { return strings.Join(slices.Sorted(slices.Values(owners)), ",") }

// Locks is the model of one key: never two writers, never a reader beside a writer; who is refused is refused by those who hold it.
var Locks = modelOf(stepLock)

// holding is who holds a key: "mode owner,owner…" with the owners sorted; "" is free.
type holding string

func (s holding) parts() (mode kvlock.Mode, owners []string) {
	if s == "" {
		return kvlock.ModeNone, nil
	}
	m, list, _ := strings.Cut(string(s), " ")
	n, _ := strconv.Atoi(m)
	return kvlock.Mode(n), strings.Split(list, ",")
}

func makeHolding(mode kvlock.Mode, owners []string) holding {
	if len(owners) == 0 {
		return ""
	}
	return holding(strconv.Itoa(int(mode)) + " " + Holders(owners))
}

func stepLock(s holding, e Lock) (holding, bool) {
	mode, owners := s.parts()
	fits := mode == kvlock.ModeNone || mode == kvlock.ModeShared && e.Mode == kvlock.ModeShared
	switch e.Verb {
	case Take:
		return makeHolding(e.Mode, append(slices.Clone(owners), e.Owner)), fits
	case Give:
		rest := slices.DeleteFunc(slices.Clone(owners), func(o string) bool { return o == e.Owner })
		return makeHolding(mode, rest), len(rest) == len(owners)-1
	case Downgrade:
		return makeHolding(kvlock.ModeShared, owners), mode == kvlock.ModeExclusive && owners[0] == e.Owner
	case Refuse:
		return s, !fits && Holders(owners) == e.Holders
	}
	return s, false
}
