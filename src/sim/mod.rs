//! The simulated world: the real node under faults, clients that remember, and a checker that judges.

mod bugs;
pub mod checker;
pub mod checkers;
pub mod client;
pub mod cluster;
pub mod history;
pub mod host;
pub mod hostile;
pub mod judge;
pub mod model;
pub mod nemesis;
pub mod reference;
pub mod storage;
pub mod strikes;
pub mod workload;
pub mod world;
