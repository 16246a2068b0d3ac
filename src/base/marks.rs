//! Coverage marks: a run that never saw what it is meant to test must fail.
