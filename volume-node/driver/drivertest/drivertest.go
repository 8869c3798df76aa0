// Package drivertest holds every driver to the contract of package driver.
//
// # Nouns
//
//   - Config: how the suite gets a fresh storage of the driver under test.
//   - Step: one call of a driver, as data, so that a child process can be told to make it.
//   - model: what must be on the storage; it is compared with all that is there, byte by byte.
//   - point: a place inside a driver where Env.Hook is called, before it changes something. The suite stops, kills
//     and fails calls at every point, and says so if there are none. Names that begin with "sync" are for what makes
//     changes durable.
//
// # Invariants
//
//   - A fault that was asked for is proven to have been met, or the test fails.
//   - A driver that keeps no data (driver.Info) is held to everything but contents.
//
// # Use
//
//	func TestMain(m *testing.M) { drivertest.Main(m, open) }
//	func TestConformance(t *testing.T) { drivertest.Run(t, drivertest.Config{Fresh: …}) }
package drivertest

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/scoria-storage/scoria/volume-node/driver"
)

// Env is what the suite wants of a driver that it opens.
type Env struct {
	// Hook is called at every point of the driver, also from several goroutines at once. A driver without points
	// ignores it.
	Hook func(point string) error
	// LockLimit is how long an overtaken holder of a node's lock has before it is ended.
	LockLimit time.Duration
	Log       *slog.Logger
}

// Opener opens the storage that a spec names. Several processes may open one at the same time.
type Opener func(ctx context.Context, spec string, env Env) (driver.Driver, error)

// Config says how the suite gets its storage.
type Config struct {
	// Fresh makes an empty storage and returns the spec that Opener understands.
	Fresh func(t *testing.T) string
	// Small makes an empty storage that Fill can fill; nil: the tests of full disks are skipped.
	Small func(t *testing.T) Small
	// CannotSmall says why Small is nil.
	CannotSmall string
	// Short leaves out the tests with faults and child processes.
	Short bool
}

// Small is a storage with little room.
type Small struct {
	Spec string
	Fill func(t *testing.T) // leaves no room at all
	Free func(t *testing.T) // gives back what Fill took
}

// opener is set by Main, before any test runs.
var opener Opener

// Main runs the tests, or, in a child process that the suite started, what the child is to do. It does not return.
func Main(m *testing.M, open Opener) {
	opener = open
	if order := os.Getenv(orderKey); order != "" {
		os.Exit(obey(order))
	}
	flag.Parse()
	// The tests mostly wait: for child processes, limits, disks.
	if err := flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))); err != nil {
		panic(err) // the flag is the testing package's
	}
	os.Exit(m.Run())
}

// Run runs the whole suite. The package's TestMain must have called Main.
func Run(t *testing.T, cfg Config) {
	if opener == nil {
		t.Fatal("drivertest: TestMain does not call drivertest.Main")
	}
	info := openFresh(t, cfg, Env{}).d.Info()
	t.Run("info", func(t *testing.T) { testInfo(t, info) })
	tests := []struct {
		name  string
		run   func(*testing.T, Config)
		needs bool // kept data
		long  bool
	}{
		{"sizes", testSizes, false, false},
		{"names", testNames, false, false},
		{"context", testContext, false, false},
		{"capacity", testCapacity, false, false},
		{"keeps nothing", testKeepsNothing, false, false},
		{"volume", testVolume, true, false},
		{"extend", testExtend, true, false},
		{"clone", testClone, true, false},
		{"snapshot", testSnapshot, true, false},
		{"changed sizes", testChangedSizes, true, false},
		{"revert", testRevert, true, false},
		{"old data", testOldData, true, false},
		{"hold", testHold, true, false},
		{"list", testList, true, false},
		{"fences", testFences, true, false},
		{"fences of sources", testFencesOfSources, true, false},
		{"parallel", testParallel, true, false},
		{"cleanup", testCleanup, true, true},
		{"cancelled copy", testCancelledCopy, true, false},
		{"faults", testFaults, true, true},
		{"killed at every point", testKilledAtPoints, true, true},
		{"killed at random", testKilledAtRandom, true, true},
		{"stopped at every point", testStoppedAtPoints, true, true},
		{"two processes", testTwoProcesses, true, true},
		{"full", testFull, true, true},
	}
	for _, test := range tests {
		if test.needs && !info.Capabilities.KeepsData || test.long && cfg.Short {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, cfg)
		})
	}
}

func testInfo(t *testing.T, info driver.Info) {
	if info.Kind == "" {
		t.Error("Info.Kind is empty")
	}
	switch info.Fencing {
	case driver.FencingNode, driver.FencingStore, driver.FencingNone:
	default:
		t.Errorf("Info.Fencing = %q, want store, node or none", info.Fencing)
	}
	for m, l := range info.Locks {
		switch {
		case l.Class != driver.LockNone && l.Class != driver.LockNode && l.Class != driver.LockPool:
			t.Errorf("Info.Locks[%s].Class = %q, want none, node or pool", m, l.Class)
		case l.Class == driver.LockPool && l.Name == "":
			t.Errorf("Info.Locks[%s] is a claim per pool without the pool's name", m)
		}
	}
	if info.Capabilities.KeepsData && !info.Capabilities.Lists {
		t.Error("Info: the driver keeps data and cannot list it: nothing could be repaired or verified")
	}
	if !info.Capabilities.KeepsData && len(info.Notes) == 0 {
		t.Error("Info: the driver keeps no data and has no note that says so")
	}
}
