//! The load generator: closed loops of gets and puts against a node, and a check that nothing acknowledged is lost.
//!
//! `command` says what is done, `plan` what is asked and what the answers mean, `driver` moves the bytes, a `session`
//! speaks the protocol.

// The client library has no sans-IO core yet, so there is no session but the one of the tests.
#![cfg_attr(not(test), allow(dead_code))]

mod acked;
mod command;
mod driver;
mod environment;
#[cfg(test)]
mod fake;
mod options;
mod plan;
mod session;
mod stats;
mod workload;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options::Options { command: _ } = options::Options::parse();
    eprintln!("armilla-bench: this build cannot talk to a node yet");
    ExitCode::from(3)
}
