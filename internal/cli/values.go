package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// durationFlag is a time between two bounds.
type durationFlag struct {
	value    *time.Duration
	from, to time.Duration
}

func newDuration(value *time.Duration, standard, from, to time.Duration) *durationFlag {
	*value = standard
	return &durationFlag{value, from, to}
}

func (d *durationFlag) String() string { return short(*d.value) }
func (d *durationFlag) Type() string   { return "duration" }

func (d *durationFlag) Set(s string) error {
	v, err := time.ParseDuration(s)
	if _, number := strconv.ParseFloat(s, 64); err != nil && number == nil {
		return fmt.Errorf("missing unit: want a time such as 30s, from %s to %s", short(d.from), short(d.to))
	}
	if err != nil || v < d.from || v > d.to {
		return fmt.Errorf("want a time from %s to %s, such as 30s or 1m30s", short(d.from), short(d.to))
	}
	*d.value = v
	return nil
}

// short is a time without the units that are zero at its end.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// countFlag is a whole number between two bounds; want says them, with the unit.
type countFlag struct {
	value    *int
	from, to int
	want     string
}

func newCount(value *int, standard, from, to int, want string) *countFlag {
	*value = standard
	return &countFlag{value, from, to, want}
}

func (c *countFlag) String() string { return strconv.Itoa(*c.value) }
func (c *countFlag) Type() string   { return "int" }

func (c *countFlag) Set(s string) error {
	v, err := strconv.Atoi(s)
	if err != nil || v < c.from || v > c.to {
		return errors.New(c.want)
	}
	*c.value = v
	return nil
}

// wordFlag gives cmd a flag that is one of some words. usage ends where they are listed.
func wordFlag(cmd *cobra.Command, value *string, name string, words []string, usage string) {
	cmd.Flags().Var(&oneOf{value, words}, name, usage+strings.Join(words, ", "))
	completeFlag(cmd, name, words...)
}

type oneOf struct {
	value *string
	words []string
}

func (o *oneOf) String() string { return *o.value }
func (o *oneOf) Type() string   { return "word" }

func (o *oneOf) Set(s string) error {
	if !slices.Contains(o.words, s) {
		return fmt.Errorf("want one of %s", strings.Join(o.words, ", "))
	}
	*o.value = s
	return nil
}

// wrongValue says which setting has which value, and what is wanted.
func wrongValue(name, value string, err error) error {
	return fmt.Errorf("setting %s: value %q: %w", name, value, inWords(err))
}

// flagError is wrongValue for what pflag says of a command line.
func flagError(err error) error {
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return wrongValue(invalid.GetFlag().Name, invalid.GetValue(), invalid.Unwrap())
	}
	return err
}

// inWords says what Go says of a number or a truth value that it cannot read.
func inWords(err error) error {
	number, ok := errors.AsType[*strconv.NumError](err)
	switch {
	case !ok:
		return err
	case number.Func == "ParseBool":
		return errors.New("want true or false")
	case errors.Is(err, strconv.ErrRange):
		return errors.New("the number is too large")
	}
	return errors.New("want a whole number")
}
