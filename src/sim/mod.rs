//! The simulated world: the real node under faults, clients that remember, and a checker that judges.

pub mod checker;
pub mod checkers;
pub mod client;
pub mod hostile;
pub mod model;
pub mod nemesis;
pub mod storage;
pub mod workload;
pub mod world;
