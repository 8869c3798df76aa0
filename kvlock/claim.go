package kvlock

import (
	"cmp"
	"fmt"
	"slices"
)

// Mode says how an operation holds a key, or wants to.
type Mode uint8

const (
	// ModeNone is the mode of a lock that nobody holds.
	ModeNone Mode = iota
	// ModeShared lets other shared holders in.
	ModeShared
	// ModeExclusive lets nobody else in.
	ModeExclusive
)

// String returns the mode's name.
func (m Mode) String() string {
	switch m {
	case ModeNone:
		return "free"
	case ModeShared:
		return "shared"
	case ModeExclusive:
		return "exclusive"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// conflicts says whether two operations may not hold one key at the same moment.
func (m Mode) conflicts(other Mode) bool {
	return m != ModeNone && other != ModeNone && (m == ModeExclusive || other == ModeExclusive)
}

// Claim is one key wanted in one mode. Make it with Exclusive or Shared.
type Claim struct {
	Key  string
	Mode Mode
}

// Exclusive claims the key for one operation alone.
func Exclusive(key string) Claim { return Claim{Key: key, Mode: ModeExclusive} }

// Shared claims the key beside other readers.
func Shared(key string) Claim { return Claim{Key: key, Mode: ModeShared} }

// String returns the claim as a person reads it.
func (c Claim) String() string { return c.Mode.String() + " " + c.Key }

// MaxClaims is how many keys one operation may claim, so that its end, which writes every one of them and lets in one who waited for as
// many, always fits into one commit beside what its caller stages.
const MaxClaims = 128

// Normalize returns the claims sorted by key, each key once in its stronger mode. It refuses no claims at all, more
// than MaxClaims, and keys that are not dotted tokens of letters, digits, '_' and '-'. The argument is not changed.
func Normalize(claims []Claim) ([]Claim, error) {
	if len(claims) == 0 {
		return nil, fmt.Errorf("%w: an operation must claim at least one key", ErrInvalid)
	}
	norm := slices.Clone(claims)
	for _, c := range norm {
		if c.Mode != ModeShared && c.Mode != ModeExclusive {
			return nil, fmt.Errorf("%w: claim of %q is neither shared nor exclusive", ErrInvalid, c.Key)
		}
		if err := checkKey(c.Key); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(norm, func(a, b Claim) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(b.Mode, a.Mode)) // the stronger mode first
	})
	norm = slices.CompactFunc(norm, func(a, b Claim) bool { return a.Key == b.Key })
	if len(norm) > MaxClaims {
		return nil, fmt.Errorf("%w: %d keys claimed, at most %d are allowed", ErrTooLarge, len(norm), MaxClaims)
	}
	return norm, nil
}

// maxToken and maxKey bound what becomes part of a subject, in bytes.
const (
	maxToken = 64
	maxKey   = 256
)

func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// isToken says whether s may stand as one token of a key or a subject.
func isToken(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return true
}

func checkOwner(owner string) error {
	if !isToken(owner) {
		return fmt.Errorf("%w: owner ID %.80q: want 1 to %d of the characters A-Z a-z 0-9 _ -", ErrInvalid, owner, maxToken)
	}
	return nil
}

// checkKey accepts tokens separated by single dots.
func checkKey(key string) error {
	ok := len(key) <= maxKey
	start := 0
	for i := 0; ok && i <= len(key); i++ {
		if i == len(key) || key[i] == '.' {
			ok = isToken(key[start:i])
			start = i + 1
		}
	}
	if !ok {
		return fmt.Errorf("%w: key %.80q: want tokens of 1 to %d of the characters A-Z a-z 0-9 _ -, joined by dots, at most %d in all",
			ErrInvalid, key, maxToken, maxKey)
	}
	return nil
}
