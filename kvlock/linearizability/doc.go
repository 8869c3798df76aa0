// Package linearizability checks what many clients of kvlock and kvtx saw on real servers while those were killed, stopped, deposed and cut
// off. It is tests alone.
//
// The nouns:
//
//   - server: a nats-server in a process of its own, one, or three that replicate the stream. It is the test's own binary, started again.
//   - process: a store with a locker and a connection of its own, which goes through a gate.
//   - gate: a TCP proxy before each server. It can lose what a server answers: what was asked has arrived then.
//   - workload: what clients do at random, and the model that says whether what they saw may have been. The first three are those of Jepsen's
//     test of etcd's locks.
//   - fault: what is done to the servers while calls are in flight. It goes on when it has been proven that it met something.
//
// Workloads: a mutex; a set in memory that only the lock protects; a set in the store that is written under the lock's fence, by workers that
// are overtaken; hand-overs in a line; readers and writers; registers that are read, written and exchanged together.
//
// Invariants of the tests: a call whose outcome is not known counts as perhaps made; one that was refused, or that ended without being in
// doubt, as not made. What a commit read is proven by a check in that commit. A plain read counts on one server only: of three, one that does not
// know yet that it was deposed may answer it ([TestALeaderThatWasDeposedAnswersReads]).
//
// What it does not do: it looks into no record but in the end; the order of events is what the clients saw. The simulation in kvlock/sim reaches
// more histories, on a server in memory.
//
// KVLOCK_SEED repeats the choices of a run, SCORIA_ROUNDS is how often each fault comes. SCORIA_LONG=1h goes on for so long.
package linearizability
