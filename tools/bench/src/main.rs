//! The load generator: YCSB's workloads against a node, and a check that nothing acknowledged is lost.
//!
//! | room | what |
//! |---|---|
//! | `options`, `properties`, `spec` | what is wanted: the command line, YCSB's properties, and both as one value |
//! | `ycsb/`, `record` | YCSB's formulas: which operation, which record; and the values |
//! | `plan`, `traffic`, `verifier` | which operation is next, the requests it takes, what the answers mean |
//! | `floors`, `acked` | what is known of a key while a run goes on, and after it |
//! | `driver/`, `pace` | bytes, sockets and time: an epoll loop a thread |
//! | `session`, `protocol`, `route` | the requests as Armilla speaks them |
//! | `stats`, `collector`, `results`, `output`, `environment` | what was measured, and how it is told |
//! | `page/` | the same as one HTML page |
//!
//! Only `driver`, `command`, `hostile` and the files that write touch the world; the rest is sans-IO.

mod acked;
mod collector;
mod command;
mod driver;
mod environment;
#[cfg(test)]
mod fake;
mod floors;
mod hostile;
mod options;
mod output;
mod pace;
mod page;
mod plan;
mod properties;
mod protocol;
mod record;
mod results;
mod route;
mod session;
mod spec;
mod stats;
mod traffic;
mod verifier;
mod ycsb;

use armilla::client::Client;
use clap::Parser;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a node may replay its log before it is measured.
const START_SECONDS_MAX: u64 = 60;

fn main() -> ExitCode {
    let options::Options { command } = options::Options::parse();
    let ready = command::check(&command);
    let ready = ready.and_then(|()| command.server().map_or(Ok(()), wait_until_serving));
    let done = ready.and_then(|()| command::execute::<protocol::Protocol>(command));
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
        let client = Client::connect(&server.to_string()).map_err(|e| e.to_string())?;
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
