//! Real processes: a node on real sockets and a real disk, the command line against it, and kill -9.

mod client;
mod cluster;
mod damage;
mod doctor;
mod grow;
mod harness;
mod hostile;
mod lifecycle;
mod log;
mod metrics;
mod quorums;
mod refusals;
mod settings;
mod shards;
mod snapshot;
mod survival;
mod transfer;
mod verbs;
