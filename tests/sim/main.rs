//! The simulated world judges the real node: seeds of faults, planted bugs that must be caught, one trace a seed.

mod cluster;
mod determinism;
mod hostile;
mod planted;
mod sweep;
