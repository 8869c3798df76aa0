// Package mutants holds faults that are put into kvlock and kvtx on purpose, to prove that the tests find them. It is tests alone.
//
// A mutant is a patch of a few lines, kept as <name>.patch, with a header: what it breaks, the package and the one test that must fail.
// [TestEachMutantIsFound] applies each to a copy, which the compiler takes instead of the file, compiles the package's tests and runs the named
// one, which must fail by what it asserts. A patch that does not apply any more, because the lines that it changes have moved on, fails, too: it
// is made anew. TestLongEveryTestOnEveryMutant runs all tests of both packages on each, and says how many find it.
//
// Invariant: every rule that a mutant breaks is one that a test names.
package mutants
