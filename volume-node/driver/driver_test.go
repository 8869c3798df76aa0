package driver_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scoria-storage/scoria/volume-node/driver"
	"github.com/scoria-storage/scoria/volume-node/driver/null"
)

func TestFenceOrderIsEraThenRevision(t *testing.T) {
	t.Parallel()
	rising := []driver.Fence{{}, {Rev: 1}, {Rev: 9}, {Rev: 10}, {Era: 1}, {Era: 1, Rev: 5}, {Era: 2, Rev: 1}}
	for i, a := range rising {
		for j, b := range rising {
			if got, want := a.Less(b), i < j; got != want {
				t.Errorf("%s.Less(%s) = %v, want %v", a, b, got, want)
			}
		}
	}
}

func TestInterceptorStandsRoundEveryCall(t *testing.T) {
	t.Parallel()
	var met []driver.Method
	var refs []driver.Ref
	d := driver.Intercept(null.New(), func(ctx context.Context, m driver.Method, ref driver.Ref, next func(context.Context) error) error {
		met, refs = append(met, m), append(refs, ref)
		return next(ctx)
	})
	ctx := t.Context()
	call := driver.Call{Operation: "op-1"}
	v, s := driver.Volume{ID: "v", Bytes: 1}, driver.Snapshot{ID: "s", Volume: "v", Bytes: 1}
	_, err := d.Capacity(ctx)
	errs := []error{
		err, d.CreateVolume(ctx, call, v), d.CloneVolume(ctx, call, v, driver.Volume{ID: "w", Bytes: 1}), d.CreateFromSnapshot(ctx, call, v, s),
		d.ExtendVolume(ctx, call, v, 2), d.DeleteVolume(ctx, call, "v"), d.CreateSnapshot(ctx, call, s),
		d.DeleteSnapshot(ctx, call, s), d.RevertVolume(ctx, call, v, s), d.RaiseFence(ctx, call, s.ID.Ref()),
		d.Cleanup(ctx, func(string) bool { return false }),
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	_, lookErr := d.Look(ctx, v.ID.Ref())
	_, sourceErr := d.Source(ctx, v)
	for what, err := range map[string]error{"Look": lookErr, "Source": sourceErr, "List": d.List(ctx, nil)} {
		if !errors.Is(err, driver.ErrUnsupported) {
			t.Errorf("%s through an interceptor = %v, want the driver's error", what, err)
		}
	}
	for _, m := range append(driver.Writing(), driver.MethodCapacity, driver.MethodList, driver.MethodLook, driver.MethodSource, driver.MethodCleanup) {
		if !slices.Contains(met, m) {
			t.Errorf("the interceptor did not meet %s", m)
		}
	}
	if i := slices.Index(met, driver.MethodDeleteSnapshot); refs[i] != s.ID.Ref() {
		t.Errorf("DeleteSnapshot was about %v, want %v", refs[i], s.ID.Ref())
	}
}

// TestInterceptorCanHoldCallsUntilAllAreInside is how tests prove that calls run side by side.
func TestInterceptorCanHoldCallsUntilAllAreInside(t *testing.T) {
	t.Parallel()
	const calls = 20
	var inside sync.WaitGroup
	inside.Add(calls)
	d := driver.Intercept(null.New(), func(ctx context.Context, _ driver.Method, _ driver.Ref, next func(context.Context) error) error {
		inside.Done()
		inside.Wait()
		return next(ctx)
	})
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			if err := d.CreateVolume(t.Context(), driver.Call{Operation: "op"}, driver.Volume{ID: "v", Bytes: 1}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestDelayTakesItsTimeAndEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reached := 0
		inner := driver.Intercept(null.New(), func(ctx context.Context, _ driver.Method, _ driver.Ref, next func(context.Context) error) error {
			reached++
			return next(ctx)
		})
		d := driver.Delay(inner, time.Second)
		begin := time.Now()
		if err := d.DeleteVolume(t.Context(), driver.Call{Operation: "op"}, "v"); err != nil || reached != 1 {
			t.Errorf("DeleteVolume = %v, reached the driver %d times", err, reached)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("the call took %s, want 1s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := d.Capacity(ctx); !errors.Is(err, context.DeadlineExceeded) || reached != 1 {
			t.Errorf("Capacity with an earlier deadline = %v, reached the driver %d times, want once", err, reached)
		}
	})
}

func TestParseSpec(t *testing.T) {
	t.Parallel()
	spec, err := driver.ParseSpec("local=file:path=/a=b:c,delay=1s")
	if err != nil {
		t.Fatal(err)
	}
	path, _ := spec.Option("path")
	if spec.Name != "local" || spec.Kind != "file" || path != "/a=b:c" || spec.Duration("delay", 0) != time.Second {
		t.Errorf("ParseSpec = %+v", spec)
	}
	if got := spec.String(); got != "local=file:path=/a=b:c,delay=1s" {
		t.Errorf("String = %s", got)
	}
	if spec, err := driver.ParseSpec("fake=null"); err != nil || spec.String() != "fake=null" {
		t.Errorf("ParseSpec(fake=null) = %+v, %v", spec, err)
	}
	for text, want := range map[string]string{
		"":                                "NAME=KIND",
		"local":                           "NAME=KIND",
		"=file":                           "backend name",
		"a b=file":                        "backend name",
		"a/b=file":                        "backend name",
		"local=":                          "no kind",
		"local=:path=x":                   "no kind",
		"local=file:":                     "key=value",
		"local=file:path":                 `"path" is not key=value`,
		"local=file:path=a,b":             `"b" is not key=value`,
		"local=file:=x":                   "key=value",
		"l=file:path=a,path=b":            "path is set twice",
		"l=file:path=a,":                  "key=value",
		strings.Repeat("x", 65) + "=file": "64",
	} {
		if _, err := driver.ParseSpec(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseSpec(%q) = %v, want words with %q", text, err, want)
		}
	}
}

func TestCheckToken(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"a", "A-b_9", strings.Repeat("x", 64), "5f0c1e6e-4b5f-4a3b-9d57-0d6f7c0a1b2c"} {
		if err := driver.CheckToken("id", token); err != nil {
			t.Errorf("CheckToken(%q) = %v", token, err)
		}
	}
	for _, token := range []string{"", ".", "a.b", "a/b", "a b", "ä", "a\x00", strings.Repeat("x", 65)} {
		if err := driver.CheckToken("id", token); !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("CheckToken(%q) = %v, want ErrInvalid", token, err)
		}
	}
}
