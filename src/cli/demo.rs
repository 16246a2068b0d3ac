//! `armilla demo`: a throwaway node, real data, kill -9 in the middle of writes, and a count of what was lost.

use super::Exit;
use super::dataset::{Row, dataset};
use crate::base::checksum::xxh3_64;
use crate::client::blocking::{Client, Put};
use crate::runtime::preflight;
use hdrhistogram::Histogram;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Show a store survive kill -9: start a node in a temporary directory, import real data, kill the node in the
/// middle of writes, recover, and compare every acked key. Leaves nothing behind.
#[derive(clap::Args, Debug)]
pub struct Demo {
    /// Delete one acked key behind the demo's back: the comparison must find it, and the demo exits with 3
    #[arg(long)]
    pub lose_one: bool,
    /// Where the temporary directory is made: on a disk, for a node keeps nothing in memory only [default: where the
    /// system keeps such, or here if that is in memory]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

const WRITERS: usize = 8;
const KEYS_MAX: usize = 20_000;
const WRITE_SECONDS: u64 = 2;

impl Demo {
    pub fn run(&self) -> Exit {
        match show(self) {
            Ok(0) => Exit::Done,
            Ok(_) => Exit::Failed,
            Err(message) => {
                eprintln!("armilla: the demo failed: {message}");
                Exit::Failed
            }
        }
    }
}

/// The temporary directory and the node in it; both go when this is dropped.
struct Stage {
    root: PathBuf,
    node: Option<Child>,
    address: String,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(node) = &mut self.node {
            let _ = node.kill();
            let _ = node.wait();
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn show(demo: &Demo) -> Result<usize, String> {
    let base = demo.scratch.clone().unwrap_or_else(scratch);
    let root = base.join(format!("armilla-demo-{}", std::process::id()));
    std::fs::create_dir_all(&root)
        .map_err(|e| format!("cannot make {}: {e}; pass --scratch DIR", root.display()))?;
    let mut stage = Stage {
        root,
        node: None,
        address: String::new(),
    };
    let (name, mut rows) = dataset();
    rows.truncate(KEYS_MAX);

    println!("1. starting a node in {}", stage.root.display());
    start(&mut stage)?;
    println!("   serves on {}", stage.address);

    println!("2. importing {} rows: {name}", rows.len());
    let mut puts = latencies();
    let mut gets = latencies();
    let took = Instant::now();
    let mut acked = import(&stage.address, &rows, &mut puts)?;
    let per_second = rows.len() as f64 / took.elapsed().as_secs_f64();
    println!(
        "   {} acked, each durable before its reply: {per_second:.0} a second",
        acked.len()
    );

    println!("3. reading them back");
    let differ = compare(&stage.address, &acked, &mut gets)?;
    println!("   {differ} of {} differ", acked.len());

    println!("4. {WRITERS} clients overwrite them; in {WRITE_SECONDS} s comes kill -9");
    let more = overwrite_and_kill(&mut stage, &rows, &mut acked, &mut puts)?;
    println!("   {more} more writes were acked before the node died");

    println!("5. starting it again on the same directory");
    let took = Instant::now();
    start(&mut stage)?;
    println!("   ready after {} ms", took.elapsed().as_millis());
    if demo.lose_one {
        lose_one(&stage.address, &acked)?;
    }

    println!("6. comparing every acked key by checksum");
    let differ = differ + compare(&stage.address, &acked, &mut gets)?;
    println!("   {differ} of {} differ", acked.len());
    print_latencies(&puts, &gets);
    println!();
    match differ {
        0 => println!("Nothing that was acked was lost. Try it yourself:"),
        _ => println!("{differ} acked key(s) are wrong or missing: that must never be."),
    }
    println!("  cargo run --release -- start");
    println!("  cargo run --release -- put greeting hello");
    println!("  cargo run --release -- get greeting");
    println!("  cargo run --release -- status");
    Ok(differ)
}

/// What each key must hold: the checksum of its last acked value, and of a later one whose outcome is unknown.
type Acked = BTreeMap<Vec<u8>, (u64, Option<u64>)>;

fn start(stage: &mut Stage) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut child = Command::new(program)
        .args([
            "start",
            "--listen",
            "127.0.0.1:0",
            "--memory",
            "512MiB",
            "--log-format",
            "json",
            "--data",
        ])
        .arg(stage.root.join("data"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start a node: {e}"))?;
    let stderr = child.stderr.take().expect("it is piped");
    stage.node = Some(child);
    let mut said = Vec::new();
    let mut lines = BufReader::new(stderr).lines();
    for line in lines.by_ref() {
        let line = line.map_err(|e| e.to_string())?;
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        match event["event"].as_str() {
            Some("listening") => {
                stage.address = event["clients"].as_str().unwrap_or_default().to_owned();
            }
            Some("ready") => {
                // Nobody reads on, so the pipe is drained: a node never waits for its own words.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(());
            }
            _ => {}
        }
        said.push(
            event["message"]
                .as_str()
                .map_or(line.clone(), str::to_owned),
        );
    }
    Err(format!(
        "the node ended before it served:\n{}",
        said.join("\n")
    ))
}

/// The system's place for what is temporary, unless a node would refuse it.
fn scratch() -> PathBuf {
    let usual = std::env::temp_dir();
    match preflight::is_in_memory(&usual) {
        true => ".".into(),
        false => usual,
    }
}

fn connect(address: &str) -> Result<Client, String> {
    Client::connect(address).map_err(|e| e.to_string())
}

fn share(rows: &[Row], writer: usize) -> impl Iterator<Item = &Row> {
    rows.iter().skip(writer).step_by(WRITERS)
}

fn import(address: &str, rows: &[Row], puts: &mut Histogram<u64>) -> Result<Acked, String> {
    let parts = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || -> Result<_, String> {
                    let client = connect(address)?;
                    let mut acked = Acked::new();
                    let mut took = latencies();
                    for row in share(rows, writer) {
                        let began = Instant::now();
                        client
                            .put(&row.key, &row.value, &Put::default())
                            .map_err(|e| e.to_string())?;
                        took.saturating_record(began.elapsed().as_micros() as u64);
                        acked.insert(row.key.clone(), (xxh3_64(&row.value), None));
                    }
                    Ok((acked, took))
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|w| w.join().expect("a writer does not panic"))
            .collect::<Vec<_>>()
    });
    let mut all = Acked::new();
    for part in parts {
        let (acked, took) = part?;
        all.extend(acked);
        puts.add(took).map_err(|e| e.to_string())?;
    }
    Ok(all)
}

/// The value of one row in one round: anybody can tell the rounds apart.
fn overwritten(row: &Row, round: u64) -> Vec<u8> {
    let mut value = format!("round {round}\n").into_bytes();
    value.extend_from_slice(&row.value);
    value
}

fn overwrite_and_kill(
    stage: &mut Stage,
    rows: &[Row],
    acked: &mut Acked,
    puts: &mut Histogram<u64>,
) -> Result<u64, String> {
    let killed = AtomicBool::new(false);
    let address = stage.address.clone();
    let mut node = stage.node.take().expect("it runs");
    let parts = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (address, killed) = (&address, &killed);
                scope.spawn(move || overwrite(address, share(rows, writer), killed))
            })
            .collect();
        std::thread::sleep(Duration::from_secs(WRITE_SECONDS));
        let _ = node.kill();
        killed.store(true, Ordering::SeqCst);
        let _ = node.wait();
        writers
            .into_iter()
            .map(|w| w.join().expect("a writer does not panic"))
            .collect::<Vec<_>>()
    });
    let mut count = 0;
    for part in parts {
        let (written, part_count, took) = part?;
        count += part_count;
        puts.add(took).map_err(|e| e.to_string())?;
        for (key, (last, unknown)) in written {
            let before = acked.get(&key).map_or(0, |a| a.0);
            acked.insert(key, (last.unwrap_or(before), unknown));
        }
    }
    Ok(count)
}

type Written = BTreeMap<Vec<u8>, (Option<u64>, Option<u64>)>;

/// Overwrites its rows round after round until the node is gone.
fn overwrite<'a>(
    address: &str,
    rows: impl Iterator<Item = &'a Row>,
    killed: &AtomicBool,
) -> Result<(Written, u64, Histogram<u64>), String> {
    let rows: Vec<&Row> = rows.collect();
    let client = connect(address)?;
    let (mut written, mut count, mut took) = (Written::new(), 0, latencies());
    for round in 1.. {
        for row in &rows {
            let value = overwritten(row, round);
            let began = Instant::now();
            let entry = written.entry(row.key.clone()).or_insert((None, None));
            match client.put(&row.key, &value, &Put::default()) {
                Ok(_) => {
                    *entry = (Some(xxh3_64(&value)), None);
                    count += 1;
                    took.saturating_record(began.elapsed().as_micros() as u64);
                }
                Err(error) => {
                    entry.1 = Some(xxh3_64(&value));
                    if !killed.load(Ordering::SeqCst) {
                        // The signal may be a moment ahead of its flag.
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    return match killed.load(Ordering::SeqCst) {
                        true => Ok((written, count, took)),
                        false => Err(format!("a put failed while the node lived: {error}")),
                    };
                }
            }
        }
        if rows.is_empty() {
            break;
        }
    }
    Ok((written, count, took))
}

fn compare(address: &str, acked: &Acked, gets: &mut Histogram<u64>) -> Result<usize, String> {
    let client = connect(address)?;
    let mut differ = 0;
    for (key, (last, unknown)) in acked {
        let began = Instant::now();
        let got = client.get(key).map_err(|e| e.to_string())?;
        gets.saturating_record(began.elapsed().as_micros() as u64);
        let right = match got.siblings.as_slice() {
            [one] => {
                let found = xxh3_64(&one.value);
                found == *last || Some(found) == *unknown
            }
            _ => false,
        };
        if !right {
            differ += 1;
            println!("   {} is wrong or missing", String::from_utf8_lossy(key));
        }
    }
    Ok(differ)
}

fn lose_one(address: &str, acked: &Acked) -> Result<(), String> {
    let Some(key) = acked.keys().next() else {
        return Ok(());
    };
    println!("   --lose-one: deleting {}", String::from_utf8_lossy(key));
    connect(address)?
        .delete(key, &Put::default())
        .map_err(|e| e.to_string())?;
    Ok(())
}

fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
}

fn print_latencies(puts: &Histogram<u64>, gets: &Histogram<u64>) {
    println!("\n   microseconds      count      p50      p99    p99.9      max");
    for (name, h) in [("durable put", puts), ("get", gets)] {
        println!(
            "   {name:<12} {:>10} {:>8} {:>8} {:>8} {:>8}",
            h.len(),
            h.value_at_quantile(0.5),
            h.value_at_quantile(0.99),
            h.value_at_quantile(0.999),
            h.max()
        );
    }
}
