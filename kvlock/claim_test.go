package kvlock

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNormalize(t *testing.T) {
	t.Parallel()
	got, err := Normalize([]Claim{Shared("volume.v9"), Exclusive("attach.v9"), Exclusive("volume.v9"), Shared("volume.v9")})
	want := []Claim{Exclusive("attach.v9"), Exclusive("volume.v9")}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Normalize = %v, %v, want %v", got, err, want)
	}
}

func TestNormalizeIsAFunctionOfTheSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		claims := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Claim {
			return Claim{
				Key:  rapid.SampledFrom([]string{"a", "a.b", "b", "c"}).Draw(t, "key"),
				Mode: rapid.SampledFrom([]Mode{ModeShared, ModeExclusive}).Draw(t, "mode"),
			}
		}), 1, 10).Draw(t, "claims")
		before := slices.Clone(claims)
		got, err := Normalize(claims)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(claims, before) {
			t.Fatalf("the argument was changed to %v", claims)
		}
		for i, c := range got {
			if i > 0 && got[i-1].Key >= c.Key {
				t.Errorf("%v: not sorted, or a key twice", got)
			}
			exclusive := slices.Contains(claims, Exclusive(c.Key))
			if exclusive != (c.Mode == ModeExclusive) {
				t.Errorf("%v became %v: the mode of %s is not the strongest", claims, got, c.Key)
			}
		}
		for _, c := range claims {
			if !slices.ContainsFunc(got, func(g Claim) bool { return g.Key == c.Key }) {
				t.Errorf("%v became %v: %s is missing", claims, got, c.Key)
			}
		}
		if again, err := Normalize(got); err != nil || !slices.Equal(again, got) {
			t.Errorf("Normalize(%v) = %v, %v", got, again, err)
		}
	})
}

func TestClaimsThatAreRefused(t *testing.T) {
	t.Parallel()
	many := make([]Claim, MaxClaims+1)
	for i := range many {
		many[i] = Shared("k." + strconv.Itoa(i))
	}
	for name, c := range map[string]struct {
		claims []Claim
		want   error
	}{
		"none":          {nil, ErrInvalid},
		"no mode":       {[]Claim{{Key: "a"}}, ErrInvalid},
		"unknown mode":  {[]Claim{{Key: "a", Mode: 3}}, ErrInvalid},
		"empty key":     {[]Claim{Shared("")}, ErrInvalid},
		"empty token":   {[]Claim{Shared("a..b")}, ErrInvalid},
		"dot first":     {[]Claim{Shared(".a")}, ErrInvalid},
		"dot last":      {[]Claim{Shared("a.")}, ErrInvalid},
		"wildcard":      {[]Claim{Shared("a.>")}, ErrInvalid},
		"star":          {[]Claim{Shared("*")}, ErrInvalid},
		"space":         {[]Claim{Shared("a b")}, ErrInvalid},
		"umlaut":        {[]Claim{Shared("ä")}, ErrInvalid},
		"long token":    {[]Claim{Shared(strings.Repeat("a", 65))}, ErrInvalid},
		"long key":      {[]Claim{Shared(strings.Repeat("a.", 128) + "a")}, ErrInvalid},
		"too many keys": {many, ErrTooLarge},
	} {
		if _, err := Normalize(c.claims); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
	if _, err := Normalize(many[:MaxClaims]); err != nil {
		t.Errorf("%d claims: %v", MaxClaims, err)
	}
	if _, err := Normalize([]Claim{Shared(strings.Repeat("a", 64))}); err != nil {
		t.Errorf("token of 64: %v", err)
	}
}
