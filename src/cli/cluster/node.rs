//! One node of the ring as a process: how it is started, and how it is.

use super::directory::{Cluster, Directory};
use super::{Failure, failed};
use crate::client::{Client, ClientError, Options};
use crate::runtime::process::{self, Identity};
use serde_json::Value;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Lines of a log that tell why a node ended.
const LAST_LINES: usize = 8;
/// How long a node is waited for that is only asked how it is.
const LOOK: Duration = Duration::from_secs(1);
/// Settings of one node that would be wrong for several. The other variables are of all of them.
const NOT_FOR_SEVERAL: [&str; 4] = [
    "ARMILLA_CONFIG",
    "ARMILLA_ADMIN",
    "ARMILLA_JOIN",
    "ARMILLA_ADVERTISE",
];

/// Starts node `number` in the background, as the head of a session of its own.
pub(super) fn start(
    directory: &Directory,
    cluster: &Cluster,
    number: usize,
) -> Result<(Child, Identity), Failure> {
    let member = &cluster.nodes[number - 1];
    let cannot = |what: &str, error: &std::io::Error| failed(format!("cannot {what}: {error}"));
    let (home, log) = (directory.node(number), directory.log(number));
    fs::create_dir_all(&home)
        .map_err(|error| cannot(&format!("make {}", home.display()), &error))?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log)
        .and_then(|out| Ok((out.try_clone()?, out)))
        .map_err(|error| cannot(&format!("write {}", log.display()), &error))?;
    let program = std::env::current_exe().map_err(|e| cannot("find this program", &e))?;
    let cores: Vec<String> = member.cores.iter().map(usize::to_string).collect();
    let mut command = Command::new(program);
    command
        .args(["start", "--listen", &cluster.address(number).to_string()])
        .args(["--cores", &cores.join(",")])
        .args(["--memory", &member.memory_bytes.to_string()])
        .arg("--data")
        .arg(directory.data(number))
        .stdin(Stdio::null())
        .stdout(log.0)
        .stderr(log.1);
    if cluster.nodes.len() > 1 {
        command.args(["--join", &cluster.addresses()]);
    }
    for name in NOT_FOR_SEVERAL {
        command.env_remove(name);
    }
    let child = process::detach(&mut command).spawn();
    let child = child.map_err(|error| cannot(&format!("start node {number}"), &error))?;
    match Identity::of(child.id()) {
        Some(process) => Ok((child, process)),
        None => Err(failed(format!(
            "node {number} ended at once; it said:\n{}",
            last_words(directory, number)
        ))),
    }
}

/// The last lines of its log, as sentences.
pub(super) fn last_words(directory: &Directory, number: usize) -> String {
    let path = directory.log(number);
    let text = fs::read(&path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    let said = last.iter().map(|line| format!("  {}\n", sentence(line)));
    said.collect::<String>() + &format!("all of it is in {}", path.display())
}

/// Of an event its level and message, of another line all of it.
fn sentence(line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap_or_default();
    match (event["level"].as_str(), event["message"].as_str()) {
        (Some(level), Some(message)) => format!("{level}: {message}"),
        _ => line.to_owned(),
    }
}

/// What a node says of itself.
pub(super) struct Said {
    pub serving: bool,
    /// Why it does not serve.
    pub message: String,
    pub report: Value,
}

impl Said {
    /// Whether each of its shards can ask each shard of the others. Right after a start a node serves, and may not yet
    /// have met those that started with it.
    pub fn reaches_all(&self) -> bool {
        self.report["links_up"] == self.report["links"]
    }
}

/// `None`: it does not answer.
pub(super) fn ask(address: SocketAddr) -> Option<Said> {
    let options = Options {
        connect_timeout: LOOK,
        request_timeout: LOOK,
        connections_max: 1,
        ..Options::default()
    };
    let asked = Client::connect_with(&address.to_string(), options);
    match asked.and_then(|client| client.status()) {
        Ok(report) => Some(Said {
            serving: report.serving,
            message: report.message,
            report: serde_json::from_str(&report.json).unwrap_or_default(),
        }),
        // It is there, and says why it takes no requests.
        Err(ClientError::Refused { message, .. }) => Some(Said {
            serving: false,
            message,
            report: Value::Null,
        }),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_told_as_a_sentence() {
        let event = r#"{"time":"..","level":"error","event":"failed","message":"no disk"}"#;
        assert_eq!(sentence(event), "error: no disk");
        assert_eq!(sentence("Killed"), "Killed");
    }
}
