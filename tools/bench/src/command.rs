//! The commands, over whatever protocol `S` speaks.

use crate::acked::{Ledger, Log};
use crate::driver::{Job, drive};
use crate::environment::Environment;
use crate::options::{Command, Load, Run, Shape, Target, Verify};
use crate::plan::{Findings, Plan, Traffic, Verifier};
use crate::route::Route;
use crate::session::Session;
use crate::stats::{Report, Stats};
use crate::workload::{Sequence, Workload, key};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Runs a command and prints what it found. An error is a line for the user, and exit code 3.
pub fn execute<S: Session>(command: Command) -> Result<(), String> {
    match command {
        Command::Load(Load { target, shape }) => {
            let report = traffic::<S>(&target, &shape, None)?;
            let bad = |(ending, _): (&String, &u64)| ending != "put ok";
            match report.endings.iter().any(bad) {
                true => Err("not every key was loaded".to_string()),
                false => Ok(()),
            }
        }
        Command::Run(run) => {
            let report = traffic::<S>(&run.target, &run.shape, Some(&run))?;
            match report.foreign_values + report.stale_gets {
                0 => Ok(()),
                wrong => Err(format!("{wrong} answers were wrong")),
            }
        }
        Command::Hostile(options) => crate::hostile::run::<S>(&options),
        Command::Verify(options) => {
            let (ledger, findings) = verify::<S>(&options)?;
            print!("{}", verdict(&ledger, &findings));
            if findings.all_good() {
                Ok(())
            } else if findings.missing + findings.differs == 0 {
                Err("not every key could be read".to_string())
            } else {
                Err("acknowledged puts are lost".to_string())
            }
        }
    }
}

/// Loads (`run` is `None`) or runs, prints the report and writes it where it is wanted.
pub fn traffic<S: Session>(
    target: &Target,
    shape: &Shape,
    run: Option<&Run>,
) -> Result<Report, String> {
    let log = match &shape.acked {
        Some(path) => Some(Arc::new(Log::open(path)?)),
        None => None,
    };
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let first = Sequence::first_of_run(since_1970);
    let (puts, seed) = run.map_or((None, 0), |run| (Some(run.puts), run.seed));
    let duration = run.map(|run| Duration::from_secs(run.seconds));
    let start = Instant::now();
    let (stats, _) = each_thread::<S, Traffic>(target, duration, |thread| {
        let workload = Workload::new((thread, target.threads), shape.keys, puts, seed, first);
        Traffic::new(workload, shape.value_bytes, log.clone())
    })?;
    let report = stats.report(start.elapsed(), Environment::of_this_machine());
    print!("{}", report.text());
    if let Some(path) = &target.json {
        let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        std::fs::write(path, json + "\n")
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(report)
}

pub fn verify<S: Session>(options: &Verify) -> Result<(Ledger, Findings), String> {
    let mut ledger = Ledger::default();
    for path in &options.files {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        ledger
            .add(&text)
            .map_err(|why| format!("{}: {why}", path.display()))?;
    }
    let threads = usize::from(options.target.threads);
    let (_, plans) = each_thread::<S, Verifier>(&options.target, None, |thread| {
        let mine = ledger
            .keys
            .iter()
            .skip(usize::from(thread))
            .step_by(threads);
        Verifier::new(mine.map(|(number, expected)| (*number, expected.clone())))
    })?;
    let mut findings = Findings::default();
    for plan in plans {
        findings.merge(plan.findings);
    }
    Ok((ledger, findings))
}

fn verdict(ledger: &Ledger, findings: &Findings) -> String {
    let mut text = format!(
        "{} puts acknowledged, {} of unknown outcome, {} keys\n{} good, {} missing, {} different, {} could not be read\n",
        ledger.acked_puts,
        ledger.unknown_puts,
        ledger.keys.len(),
        findings.good,
        findings.missing,
        findings.differs,
        findings.unread,
    );
    if ledger.torn_lines > 0 {
        text += &format!("{} torn lines ignored\n", ledger.torn_lines);
    }
    if let Some(number) = findings.example {
        text += &format!("for example {}\n", key(number));
    }
    text
}

/// Runs a plan on each thread and merges what they measured.
fn each_thread<S: Session, P: Plan + Send>(
    target: &Target,
    duration: Option<Duration>,
    plan: impl Fn(u16) -> P,
) -> Result<(Stats, Vec<P>), String> {
    let timeout = Duration::from_secs(target.timeout);
    // One attempt that can be told about, before threads try for ever.
    std::net::TcpStream::connect_timeout(&target.server, timeout).map_err(|error| {
        format!(
            "cannot reach {}: {error}; is the node started?",
            target.server
        )
    })?;
    let route = Route::of(target.server, target.route)?;
    let mut jobs = Vec::new();
    for thread in 0..target.threads {
        let cpu = target
            .cpu
            .get(usize::from(thread) % target.cpu.len().max(1));
        let job = Job {
            route: route.clone(),
            connections: target.connections_of(thread)? as usize,
            depth: target.depth as usize,
            duration,
            timeout,
            cpu: cpu.copied(),
            operations: random_u64()?,
        };
        jobs.push((job, plan(thread)));
    }
    let ended: Vec<Result<(Stats, P), String>> = std::thread::scope(|scope| {
        let run =
            |(job, mut plan): (Job, P)| move || drive::<S, P>(&job, &mut plan).map(|s| (s, plan));
        let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(run(job))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a thread panicked".to_string()))
        };
        threads.into_iter().map(join).collect()
    });
    let mut all = Stats::new();
    let mut plans = Vec::new();
    for result in ended {
        let (stats, plan) = result?;
        all.merge(stats);
        plans.push(plan);
    }
    Ok((all, plans))
}

fn random_u64() -> Result<u64, String> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| format!("cannot read /dev/urandom: {error}"))?;
    Ok(u64::from_le_bytes(bytes))
}
