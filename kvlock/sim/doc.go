// Package sim simulates processes that use kvlock, on a server in memory and with everything that can go wrong between them. It is
// tests alone.
//
// The nouns:
//
//   - world: one simulated history. A seed is its only input: the same seed gives the same history. KVLOCK_SEED repeats one.
//   - process: a kvtx store with a locker and actors. It crashes between any two steps, and is started again as another one.
//   - actor: a goroutine of a process that does its work: a client, a worker that takes dispatches, one that serves wakes, an operator. Clients
//     and workers take named locks for a while; workers leave operations to other ones, and to the operator.
//   - event: something that may happen next: a call arrives at the server, its answer comes back, a delivery, an actor's turn.
//   - fate: how it happens. A call may be lost, refused, or arrive when its caller has long given up; so may its answer.
//   - truth: what the server's records say, read after each write, beside the resources that the holders write.
//
// How it works: all goroutines run in a bubble of testing/synctest, where time passes only when all of them wait. Then, and only then, the
// world chooses one event and lets it happen. The code under test is kvlock and kvtx as they are, from the seam of kvlock/internal/link on;
// the server is kvlock/internal/memserver, which its conformance suite holds to a real one. Wakes are served by ServeWakes, on a durable consumer
// that this package models: deliveries, acknowledgements and purges get lost as calls do.
//
// Invariants that are looked at after each write: no two writers of a key and no reader beside a writer; every entry of a lock is that of a live
// operation, and every live operation has its entries; an operation that waits and that nothing keeps from its grant is owed a wake; one
// that is granted has its dispatch; fences rise; a named lock has one holder at most and no line, an operation has one at most, and none when
// it is stuck or over; no wake is purged that nobody has served. In the end every wake was served, everything is free, and what was
// acknowledged is there.
//
// What it does not do: it knows nothing of nats.go, connections and disks, and its server has no replicas; tests with real servers do.
package sim
