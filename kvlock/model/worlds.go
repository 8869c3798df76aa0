package model

// budget returns how often each fault may happen, in the order of the faults: crash, lost, twice, broken, stuck, redispatch, reuse.
type budget = [faults]uint8

// Worlds are those that are explored in every test run.
func Worlds() []World {
	return []World{
		{Name: "4 operations, 3 keys, reads of any age, one grant a commit", Keys: 3, Limit: 1, Stale: true, Deep: true,
			Ops: []Spec{writer(a | b), writer(b | c), writer(a | c), reader(a | b | c)}},
		{Name: "4 operations, 3 keys, two leave, a deadline, a downgrade, a crash, one grant a commit", Keys: 3, Limit: 1, Stale: true,
			Ops:    []Spec{writer(a | b).leaves(), writer(b | c).until(), writer(a | c).downgrades(), reader(a | b | c).leaves()},
			Budget: budget{Crash: 1}},
		{Name: "4 operations, 2 keys, readers and writers, a crash, a lost reply", Keys: 2, Limit: 2, Stale: true,
			Ops:    []Spec{writer(a), reader(a | b), writer(b).refused(), reader(b).leaves()},
			Budget: budget{Crash: 1, Lost: 1}},
		{Name: "3 operations, 2 keys, a break, a second delivery, a lost reply", Keys: 2, Limit: 64, Stale: true,
			Ops:    []Spec{writer(a), writer(b), writer(a | b).leaves()},
			Budget: budget{Lost: 1, Twice: 1, Broken: 1}},
		{Name: "3 operations, 2 keys, one gets stuck, a redispatch, a second delivery", Keys: 2, Limit: 64, Stale: true,
			Ops:    []Spec{writer(a).downgrades(), reader(a), writer(a | b).until()},
			Budget: budget{Twice: 1, Stuck: 1, Redispatch: 1}},
		{Name: "2 operations, 1 key, every fault", Keys: 1, Limit: 64, Stale: true,
			Ops:    []Spec{writer(a).leaves(), writer(a).until()},
			Budget: budget{Crash: 1, Lost: 1, Twice: 1, Broken: 1, Stuck: 1, Redispatch: 1}},
		{Name: "4 operations, 2 keys, clients are the workers, two crashes, a lost reply", Keys: 2, Limit: 64, Stale: true,
			Ops:    []Spec{writer(a).own(), writer(a | b).own().leaves(), reader(b).own().until(), reader(a | b)},
			Budget: budget{Crash: 2, Lost: 1}},
		{Name: "3 operations, 2 keys, an ID is used again, a crash, a lost reply", Keys: 2, Limit: 64, Stale: true, Expiry: true,
			Ops:    []Spec{writer(a), writer(b), writer(a | b)},
			Budget: budget{Crash: 1, Lost: 1, Reuse: 1}},
	}
}

// LongWorlds take minutes and gigabytes.
func LongWorlds() []World {
	return []World{
		{Name: "4 operations, 3 keys, reads of any age, a crash, a lost reply", Keys: 3, Limit: 2, Stale: true, Deep: true,
			Ops:    []Spec{writer(a | b).leaves(), writer(b | c), writer(a | c).until(), reader(a | b | c)},
			Budget: budget{Crash: 1, Lost: 1}},
		{Name: "3 operations, 2 keys, every fault once", Keys: 2, Limit: 64, Stale: true,
			Ops:    []Spec{writer(a), writer(b), writer(a | b).leaves()},
			Budget: budget{Crash: 1, Lost: 1, Twice: 1, Broken: 1, Stuck: 1, Redispatch: 1}},
	}
}
