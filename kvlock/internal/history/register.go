package history

import (
	"slices"
	"strings"
)

// MaxRegisters is how many registers one part has.
const MaxRegisters = 3

// Registers is an event of a few registers that are changed together: it saw what they held, and then wrote, at one moment. "" is nothing.
type Registers struct {
	Saw, Wrote map[int]string
}

// Transactions is the model of a part's registers.
var Transactions = modelOf(func(s [MaxRegisters]string, e Registers) ([MaxRegisters]string, bool) {
	for i, v := range e.Saw {
		if s[i] != v {
			return s, false
		}
	}
	for i, v := range e.Wrote {
		s[i] = v
	}
	return s, true
})

// Set is an event of a set that only grows: an element was added, or all of it was seen.
type Set struct {
	Add string
	Saw []string // if Add is ""
}

// Sets is the model of a set.
var Sets = modelOf(func(s string, e Set) (string, bool) {
	if e.Add == "" {
		return s, s == Holders(e.Saw)
	}
	var elements []string
	if s != "" {
		elements = strings.Split(s, ",")
	}
	return Holders(append(elements, e.Add)), !slices.Contains(elements, e.Add)
})
