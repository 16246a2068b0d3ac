//! Real processes: a node on real sockets and a real disk, the command line against it, and kill -9.

mod harness;
mod hostile;
mod lifecycle;
mod refusals;
mod shards;
mod survival;
mod verbs;
