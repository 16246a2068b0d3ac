//! The load generator: closed loops of gets and puts against a node, and a check that nothing acknowledged is lost.
//!
//! `command` says what is done, `plan` what is asked and what the answers mean, `driver` moves the bytes, a `session`
//! speaks the protocol: `protocol` is Armilla's.

mod acked;
mod command;
mod driver;
mod environment;
#[cfg(test)]
mod fake;
mod options;
mod plan;
mod protocol;
mod session;
mod stats;
mod workload;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options::Options { command } = options::Options::parse();
    match command::execute::<protocol::Protocol>(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("armilla-bench: {why}");
            ExitCode::from(3)
        }
    }
}
