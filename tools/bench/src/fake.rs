//! A node for tests: a text protocol over TCP, a map, and faults on purpose.

use crate::environment::Server;
use crate::session::{Answer, Ask, Session};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Each fault strikes every n-th put of the node; 0 is never.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// Acknowledged, not kept.
    pub forget: u64,
    pub refuse: u64,
    /// Kept or not, the answer is that nobody knows.
    pub doubt: u64,
    /// Kept, but the connection is cut instead of an answer.
    pub cut: u64,
    /// One bit of the value is another.
    pub flip: u64,
}

#[derive(Default)]
struct State {
    values: HashMap<String, Vec<u8>>,
    puts: u64,
}

/// Starts a node that lives as long as the test; returns its address.
pub fn start(faults: Faults) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let state = Arc::new(Mutex::new(State::default()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let state = state.clone();
            std::thread::spawn(move || serve(stream.unwrap(), &state, faults));
        }
    });
    address
}

fn serve(stream: TcpStream, state: &Mutex<State>, faults: Faults) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    for line in BufReader::new(stream).lines() {
        let line = line.ok()?;
        let fields: Vec<&str> = line.split(' ').collect();
        let (id, key) = (fields[1], fields[2]);
        let mut state = state.lock().unwrap();
        let answer = if fields[0] == "get" {
            match state.values.get(key) {
                Some(value) => format!("value {id} {}", hex(value)),
                None => format!("none {id} -"),
            }
        } else {
            state.puts += 1;
            let count = state.puts;
            let strikes = |every: u64| every > 0 && count.is_multiple_of(every);
            let mut value = unhex(fields[3]);
            if strikes(faults.flip) {
                value[20] ^= 1;
            }
            let (refuse, cut) = (strikes(faults.refuse), strikes(faults.cut));
            if !refuse && !strikes(faults.forget) {
                state.values.insert(key.to_string(), value);
            }
            if cut {
                return None;
            }
            let word = match (refuse, strikes(faults.doubt)) {
                (true, _) => "refused",
                (false, true) => "doubt",
                (false, false) => "none",
            };
            format!("{word} {id} -")
        };
        drop(state);
        out.write_all((answer + "\n").as_bytes()).ok()?;
    }
    Some(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len() / 2).map(|index| byte(2 * index)).collect()
}

pub struct FakeSession {
    next: u64,
    partial: Vec<u8>,
}

impl Session for FakeSession {
    fn who(_: SocketAddr) -> Server {
        Server::default()
    }

    fn new(_: &[u8], _: &mut Vec<u8>) -> FakeSession {
        FakeSession {
            next: 0,
            partial: Vec::new(),
        }
    }

    fn submit(&mut self, ask: &Ask<'_>, out: &mut Vec<u8>) -> u64 {
        self.next += 1;
        let id = self.next;
        let line = match ask {
            Ask::Get { key } => format!("get {id} {}\n", String::from_utf8_lossy(key)),
            Ask::Put { key, value, .. } => {
                format!("put {id} {} {}\n", String::from_utf8_lossy(key), hex(value))
            }
        };
        out.extend(line.bytes());
        id
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        on_answer: &mut dyn FnMut(u64, Answer<'_>),
    ) -> Result<(), String> {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8(self.partial.drain(..=end).collect()).unwrap();
            let fields: Vec<&str> = line.trim_end().split(' ').collect();
            let id = fields[1].parse().unwrap();
            match fields[0] {
                "value" => on_answer(id, done(&[&unhex(fields[2])])),
                "none" => on_answer(id, done(&[])),
                "doubt" => on_answer(id, Answer::Unknown("timeout")),
                _ => on_answer(id, Answer::Refused("full")),
            }
        }
        Ok(())
    }
}

fn done<'a>(values: &'a [&'a [u8]]) -> Answer<'a> {
    Answer::Done {
        values,
        context: b"",
    }
}

mod tests {
    use super::*;
    use crate::command::{execute, traffic, verify};
    use crate::options::{Command, Options};
    use crate::results::Report;
    use crate::verifier::Findings;
    use clap::Parser;
    use std::path::PathBuf;

    fn acked(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("armilla-bench-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn command(line: &str) -> Command {
        let words = ["armilla-bench"].into_iter().chain(line.split_whitespace());
        Options::try_parse_from(words).unwrap().command
    }

    /// Loads, runs for a second, verifies; `more` is said to load and run.
    fn all(name: &str, faults: Faults, more: &str) -> (Report, Findings) {
        let (server, path) = (start(faults), acked(name));
        let target = format!("--server {server} --threads 2 --connections 5 --depth 3");
        let shape = format!("--keys 500 {more} --acked {}", path.display());
        let Command::Load(load) = command(&format!("load {target} {shape}")) else {
            panic!()
        };
        traffic::<FakeSession>(&load.target, &load.workload, &load.measure, None).unwrap();
        let mix = [
            "-p readproportion=0.4 -p updateproportion=0.3",
            "-p insertproportion=0.1 -p readmodifywriteproportion=0.2",
        ]
        .join(" ");
        let Command::Run(run) = command(&format!("run {target} {shape} {mix} --seconds 1")) else {
            panic!()
        };
        let report =
            traffic::<FakeSession>(&run.target, &run.workload, &run.measure, Some(&run)).unwrap();
        let Command::Verify(options) = command(&format!("verify {} {target}", path.display()))
        else {
            panic!()
        };
        let (ledger, findings) = verify::<FakeSession>(&options).unwrap();
        std::fs::remove_file(&path).unwrap();
        let read = findings.good + findings.missing + findings.differs + findings.unread;
        assert_eq!(read, ledger.keys.len() as u64);
        for kind in ["READ", "UPDATE", "INSERT", "READ-MODIFY-WRITE"] {
            assert!(report.operations[kind].count > 0, "{kind}");
        }
        (report, findings)
    }

    fn wrong(report: &Report) -> u64 {
        report.checks.foreign_values + report.checks.stale_gets
    }

    fn returns(report: &Report, kind: &str, how: &str) -> u64 {
        let returns = &report.operations[kind].returns;
        returns.get(how).copied().unwrap_or(0)
    }

    /// One field, so that updates overwrite.
    const ONE_FIELD: &str = "--value-bytes 64";
    /// Updates get first.
    const FIELDS: &str = "-p fieldlength=20 -p requestdistribution=zipfian";

    #[test]
    fn an_honest_node_passes() {
        for (name, more) in [("honest-one", ONE_FIELD), ("honest-fields", FIELDS)] {
            let (report, findings) = all(name, Faults::default(), more);
            assert!(findings.all_good() && findings.good >= 500, "{findings:?}");
            assert_eq!(
                wrong(&report) + report.overall.connections_lost,
                0,
                "{name}"
            );
            assert_eq!(report.overall.errors, 0, "{:?}", report.operations);
            let seconds: u64 = report.seconds.iter().map(|second| second.operations).sum();
            assert_eq!(seconds, report.overall.operations);
        }
    }

    #[test]
    fn refusals_and_cut_connections_are_no_loss() {
        let faults = Faults {
            refuse: 7,
            cut: 50,
            doubt: 40,
            ..Faults::default()
        };
        let (report, findings) = all("cut", faults, ONE_FIELD);
        assert!(findings.all_good(), "{findings:?}");
        assert!(returns(&report, "UPDATE", "FULL") > 0);
        assert!(returns(&report, "UPDATE", "TIMEOUT") > 0);
        assert!(report.overall.connections_lost > 0);
        assert!(returns(&report, "UPDATE", "CONNECTION_LOST") > 0);
        assert_eq!(wrong(&report), 0);
    }

    #[test]
    fn a_node_that_forgets_is_caught() {
        let faults = Faults {
            forget: 20,
            ..Faults::default()
        };
        let (report, findings) = all("forget", faults, ONE_FIELD);
        assert!(findings.missing + findings.differs > 0, "{findings:?}");
        assert!(report.checks.stale_gets > 0, "and while it ran");
    }

    #[test]
    fn a_node_that_flips_bits_is_caught() {
        let faults = Faults {
            flip: 20,
            ..Faults::default()
        };
        let (report, findings) = all("flip", faults, ONE_FIELD);
        assert!(
            findings.differs > 0 && findings.example.is_some(),
            "{findings:?}"
        );
        assert!(report.checks.foreign_values > 0, "and while it ran");
    }

    #[test]
    fn an_open_loop_keeps_its_rate_and_tells_both_times() {
        let server = start(Faults::default());
        let line = format!("run --server {server} --keys 100 --target 2000 -p operationcount=500");
        let Command::Run(run) = command(&line) else {
            panic!()
        };
        let report =
            traffic::<FakeSession>(&run.target, &run.workload, &run.measure, Some(&run)).unwrap();
        assert!(
            report.overall.run_ms >= 249,
            "500 of 2000 a second take a quarter of one"
        );
        // The store is empty: what is read is not there.
        assert_eq!(report.overall.errors, 500);
        assert_eq!(report.overall.target, Some(2000.0));
    }

    #[test]
    fn workload_e_and_a_node_that_is_not_there_are_said_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        drop(listener);
        let why = execute::<FakeSession>(command(&format!("load --server {server}"))).unwrap_err();
        assert!(why.contains("is the node started"), "{why}");
        let e = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/workloade");
        let why = execute::<FakeSession>(command(&format!("run -P {e}"))).unwrap_err();
        assert!(why.contains("not implemented: hash-ordered store"), "{why}");
    }
}
