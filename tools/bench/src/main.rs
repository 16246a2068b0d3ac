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
mod hostile;
mod options;
mod plan;
mod protocol;
mod route;
mod session;
mod stats;
mod workload;

use armilla::client::Client;
use clap::Parser;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a node may replay its log before it is measured.
const START_SECONDS_MAX: u64 = 60;

fn main() -> ExitCode {
    let options::Options { command } = options::Options::parse();
    let done = wait_until_serving(command.target().server)
        .and_then(|()| command::execute::<protocol::Protocol>(command));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("armilla-bench: {why}");
            ExitCode::from(3)
        }
    }
}

/// A node that replays its log refuses every request, and would be measured refusing.
fn wait_until_serving(server: SocketAddr) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
    loop {
        let mut client = Client::connect(&server.to_string()).map_err(|e| e.to_string())?;
        let report = client.status().map_err(|e| e.to_string())?;
        if report.serving {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{server} does not serve: {}", report.message));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
