//! Clients without manners around an honest one: what the node holds before and after, and what the honest one notices.
//!
//! The honest client runs alone first, then while bad frames of every kind are sent, idle connections stand by, half
//! requests are begun and replies are left unread. Then all of them go, and the node is looked at again.

use crate::command;
use crate::options::{Hostile, Measure, Run, Workload};
use crate::results::Report;
use crate::session::Session;
use armilla::client::core::Core;
use armilla::wire::message::{Op, PutMode, Request};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a bad frame may wait for the end of its connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the node has to give everything back.
const SETTLE: Duration = Duration::from_secs(30);

/// What a process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub sockets: u64,
    pub resident_kib: u64,
}

impl Held {
    /// Of a process of this machine; `None` without a process id.
    pub fn of(pid: Option<u32>) -> Option<Held> {
        let pid = pid?;
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let leads_to =
            |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.ok()?.path()).ok();
        // Files come and go with what the honest client stores.
        let is_socket = |to: &std::path::PathBuf| to.to_string_lossy().starts_with("socket:");
        let sockets = open.filter_map(leads_to).filter(is_socket).count() as u64;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let resident_kib = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(Held {
            sockets,
            resident_kib,
        })
    }
}

/// How bad frames were met.
#[derive(Debug, Default)]
struct Met {
    /// By a typed reply, and how many of these connections were closed then.
    answered: AtomicU64,
    /// By a closed connection alone.
    closed: AtomicU64,
    /// By nothing in time: a bug of the node.
    ignored: AtomicU64,
    /// The node took no connection.
    unreached: AtomicU64,
}

pub fn run<S: Session>(options: &Hostile) -> Result<(), String> {
    let honest = |seconds| Run {
        target: options.target.clone(),
        workload: Workload {
            keys: Some(options.keys),
            value_bytes: Some(100),
            seed: 1,
            ..Workload::default()
        },
        measure: Measure::default(),
        seconds: Some(seconds),
        warmup: 0,
        puts: Some(50),
    };
    let traffic =
        |run: &Run| command::traffic::<S>(&run.target, &run.workload, &run.measure, Some(run));
    let run = honest(options.seconds);
    let server = options.target.server;
    // A round of each first, so that what is allocated once is there before it is counted.
    traffic(&honest(1))?;
    bad_frames(server, options.bad_frames.min(2_000), 1, &Met::default());
    println!("\nthe honest client alone");
    let alone = traffic(&run)?;
    std::thread::sleep(Duration::from_secs(1));
    let before = Held::of(options.pid);
    let crowd = Crowd::gather(server, options)?;
    let among = Held::of(options.pid);
    println!(
        "\nthe honest client among {} idle connections, {} slow readers, {} half requests, {} bad frames",
        options.idle, options.slow_readers, options.half_frames, options.bad_frames
    );
    let (met, began) = (Met::default(), Instant::now());
    let meanwhile = std::thread::scope(|scope| {
        let frames = || {
            step_back(options.target.cpu.first());
            bad_frames(server, options.bad_frames, options.hostile_threads, &met);
        };
        let hostile = scope.spawn(frames);
        let report = traffic(&run);
        // A panic there is a bug of this program, and told by its own message.
        let _ = hostile.join();
        report
    })?;
    let took = began.elapsed();
    drop(crowd);
    let after = settled(options.pid, before);
    print!("{}", table(&alone, &meanwhile, [before, among, after]));
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (ignored, unreached) = (count(&met.ignored), count(&met.unreached));
    println!(
        "bad frames: {} in {:.1} s; {} got a typed reply, {} a closed connection, {ignored} nothing; {unreached} \
         found no connection",
        options.bad_frames,
        took.as_secs_f64(),
        count(&met.answered),
        count(&met.closed),
    );
    match ignored {
        0 => Ok(()),
        _ => Err(format!("{ignored} bad frames were ignored")),
    }
}

/// Waits until the node holds no more than before, or for a while.
fn settled(pid: Option<u32>, before: Option<Held>) -> Option<Held> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let now = Held::of(pid);
        let within = |now: u64, before: u64| now * 100 <= before * 105;
        let back = now.zip(before).is_none_or(|(now, before)| {
            within(now.sockets, before.sockets) && within(now.resident_kib, before.resident_kib)
        });
        if back || Instant::now() > deadline {
            return now;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn table(alone: &Report, meanwhile: &Report, held: [Option<Held>; 3]) -> String {
    let mut text = format!(
        "\n{:<28}{:>12}{:>12}{:>12}{:>9}\n",
        "", "before", "meanwhile", "after", "change"
    );
    let change = |from: f64, to: f64| match from > 0.0 {
        true => format!("{:+.1} %", (to / from - 1.0) * 100.0),
        false => String::new(),
    };
    let mut row = |name: &str, cells: [Option<f64>; 3]| {
        // Writing to a string does not fail.
        let _ = write!(text, "{name:<28}");
        for cell in cells {
            let cell = cell.map_or("-".into(), |value| format!("{value:.0}"));
            let _ = write!(text, "{cell:>12}");
        }
        let last = cells[2].or(cells[1]);
        let change = cells[0].zip(last).map(|(from, to)| change(from, to));
        let _ = writeln!(text, "{:>9}", change.unwrap_or_default());
    };
    let cells = |of: fn(Held) -> u64| held.map(|h| h.map(|h| of(h) as f64));
    row("sockets of the node", cells(|h| h.sockets));
    row("resident KiB of the node", cells(|h| h.resident_kib));
    row(
        "honest requests/s",
        [
            Some(alone.overall.throughput),
            Some(meanwhile.overall.throughput),
            None,
        ],
    );
    for name in ["READ", "UPDATE"] {
        let latency = |report: &Report| report.operations.get(name)?.latency_us.clone();
        let p99 = |report: &Report| latency(report).map(|latency| latency.p99);
        let cells = [p99(alone), p99(meanwhile), None];
        row(&format!("honest {name} p99, us"), cells);
    }
    text
}

/// Connections that are held while the honest client works.
struct Crowd {
    _held: Vec<TcpStream>,
}

impl Crowd {
    fn gather(server: SocketAddr, options: &Hostile) -> Result<Crowd, String> {
        let connect = || {
            TcpStream::connect(server).map_err(|error| {
                format!(
                    "cannot open so many connections: {error}; raise the limit of open files here \
                     (ulimit -n), or ask for fewer"
                )
            })
        };
        let mut held = Vec::new();
        for _ in 0..options.idle {
            held.push(connect()?);
        }
        let large = vec![7; 1 << 19];
        let stored = frame(&put(b"hostile-large", &large));
        let mut first = connect()?;
        let sent = first
            .write_all(&stored)
            .and_then(|()| first.read(&mut [0; 512]));
        sent.map_err(|error| format!("cannot store a value to be read slowly: {error}"))?;
        let gets: Vec<u8> = (0..64)
            .flat_map(|_| frame(&get(b"hostile-large")))
            .collect();
        for _ in 0..options.slow_readers {
            let mut reader = connect()?;
            // Its replies are never read.
            reader.write_all(&gets).map_err(|error| error.to_string())?;
            held.push(reader);
        }
        for _ in 0..options.half_frames {
            let mut writer = connect()?;
            let half = &stored[..10_000];
            writer.write_all(half).map_err(|error| error.to_string())?;
            held.push(writer);
        }
        Ok(Crowd { _held: held })
    }
}

/// Gives this thread, and those that it starts, what CPU time the honest client leaves over, on the CPU of the honest
/// client: what that one loses is then what the node does to it, not what the two of this program do to each other.
fn step_back(cpu: Option<&usize>) {
    if let Some(&id) = cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    // A lower priority can always be had; without it the figures are only worse.
    let _ = rustix::process::setpriority_process(None, 19);
}

/// Sends `count` bad frames, each on a connection of its own.
fn bad_frames(server: SocketAddr, count: u64, threads: u64, met: &Met) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let kinds = Kinds::new();
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= count {
                        return;
                    }
                    send_bad(server, kinds.nth(nth), met);
                }
            });
        }
    });
}

fn send_bad(server: SocketAddr, bytes: &[u8], met: &Met) {
    let tick = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    let Ok(mut stream) = TcpStream::connect(server) else {
        tick(&met.unreached);
        return;
    };
    // A refusal shows as a wait without end, and that is counted.
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.write_all(bytes);
    // A truncated frame is one only if nothing follows.
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    let late = end.is_err_and(|error| {
        matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        )
    });
    match (late, answer.is_empty()) {
        (true, _) => tick(&met.ignored),
        (false, false) => tick(&met.answered),
        (false, true) => tick(&met.closed),
    };
}

/// One of each kind of bad frame.
struct Kinds(Vec<Vec<u8>>);

impl Kinds {
    fn new() -> Kinds {
        let good = frame(&put(b"hostile", &[7; 300]));
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            bytes
        };
        let absurd = Request {
            read_quorum: 255,
            write_quorum: 255,
            timeout_ms: u32::MAX,
            ..put(b"hostile", b"v")
        };
        Kinds(vec![
            // Too long, too short, of no length at all.
            u32::MAX.to_le_bytes().to_vec(),
            7u32.to_le_bytes().to_vec(),
            vec![0; 64],
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            // Truncated anywhere.
            good[..3].to_vec(),
            good[..11].to_vec(),
            good[..good.len() - 1].to_vec(),
            // A wrong identifier, a damaged table, an unknown op, bytes behind.
            with(&|bytes| bytes[8] ^= 0x20),
            with(&|bytes| bytes[12..40].fill(0xff)),
            with(&|bytes| bytes[4] ^= 0x55),
            with(&|bytes| bytes.extend_from_slice(&[1; 40])),
            with(&|bytes| {
                let len = bytes.len() as u32 + 36;
                bytes[..4].copy_from_slice(&len.to_le_bytes());
                bytes.extend_from_slice(&[1; 40]);
            }),
            frame(&absurd),
            frame(&Request {
                key: b"",
                ..get(b"")
            }),
        ])
    }

    fn nth(&self, nth: u64) -> &[u8] {
        &self.0[nth as usize % self.0.len()]
    }
}

fn frame(request: &Request<'_>) -> Vec<u8> {
    let mut core = Core::new();
    core.submit(request);
    core.unsent().to_vec()
}

fn get(key: &[u8]) -> Request<'_> {
    Request {
        op: Op::Get,
        key,
        ..Request::default()
    }
}

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Request<'a> {
    Request {
        op: Op::Put,
        mode: PutMode::Overwrite,
        key,
        value,
        ..Request::default()
    }
}
