//! The commands, over whatever protocol `S` speaks.

use crate::acked::{Ledger, Log, Naming};
use crate::collector::{Collector, Progress, with_hdr_log};
use crate::driver::{Job, drive};
use crate::environment::Environment;
use crate::options::{self, Command, Load, Measure, Run, Target, Verify, Workload};
use crate::output;
use crate::pace::Pace;
use crate::plan::Plan;
use crate::record::Sequence;
use crate::results::{Checks, FORMAT, Generator, Operation, Overall, Report};
use crate::route::Route;
use crate::session::Session;
use crate::spec::{self, Spec};
use crate::stats::{Ended, Second};
use crate::traffic::{Shared, Traffic, Work};
use crate::verifier::{Findings, Verifier};
use crate::ycsb::key::KeyNames;
use crate::ycsb::mix::Kind;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a run goes on that is not told when to end.
const SECONDS_DEFAULT: u64 = 10;
/// Connections where neither --connections nor threadcount tells.
const CONNECTIONS_DEFAULT: u32 = 16;
/// Seconds between two lines of progress, on a terminal and elsewhere.
const PROGRESS_SECONDS: (u64, u64) = (1, 10);

/// Runs a command and prints what it found. An error is a line for the user, and exit code 3.
pub fn execute<S: Session>(command: Command) -> Result<(), String> {
    match command {
        Command::Load(Load {
            target,
            workload,
            measure,
        }) => {
            let report = traffic::<S>(&target, &workload, &measure, None)?;
            let loaded = report.overall.errors == 0;
            loaded
                .then_some(())
                .ok_or_else(|| "not every record was loaded".to_string())
        }
        Command::Run(run) => {
            let report = traffic::<S>(&run.target, &run.workload, &run.measure, Some(&run))?;
            match report.checks.foreign_values + report.checks.stale_gets {
                0 => Ok(()),
                wrong => Err(format!("{wrong} answers were wrong")),
            }
        }
        Command::Hostile(options) => crate::hostile::run::<S>(&options),
        Command::Report(options) => crate::page::write(&options),
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

/// Refuses what cannot be run, before anything is asked of a node.
pub fn check(command: &Command) -> Result<(), String> {
    let properties = match command {
        Command::Load(load) => load.workload.properties(None)?,
        Command::Run(run) => run.workload.properties(run.puts)?,
        Command::Verify(_) | Command::Hostile(_) | Command::Report(_) => return Ok(()),
    };
    Spec::new(&properties).map(drop)
}

/// Loads (`run` is `None`) or runs, prints the report and writes it where it is wanted.
pub fn traffic<S: Session>(
    target: &Target,
    workload: &Workload,
    measure: &Measure,
    run: Option<&Run>,
) -> Result<Report, String> {
    let properties = workload.properties(run.and_then(|run| run.puts))?;
    let spec = Spec::new(&properties)?;
    for warning in properties
        .warnings()
        .into_iter()
        .chain(Spec::remarks(&properties))
    {
        eprintln!("armilla-bench: warning: {warning}");
    }
    let (operations, duration) = extent(&spec, workload, run);
    let naming = Naming {
        keys: spec.keys,
        bucket: spec.bucket.clone(),
    };
    let log = measure
        .acked
        .as_ref()
        .map(|path| Log::open(path, &naming))
        .transpose()?;
    let unix_time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let shared = Arc::new(Shared::new(&spec, Sequence::first_of_run(unix_time), log));
    let work = |thread: u16| match run {
        None => Work::Load,
        Some(_) => Work::Run(operations.map(|all| share(all, (thread, target.threads)))),
    };
    let seeds = (0..target.threads)
        .map(|_| random_u64())
        .collect::<Result<Vec<u64>, String>>()?;
    let plan = |thread: u16| {
        let seeds = (workload.seed, seeds[usize::from(thread)]);
        Traffic::new(
            &spec,
            shared.clone(),
            work(thread),
            (thread, target.threads),
            seeds,
        )
    };
    let crew = Crew {
        target,
        connections: target
            .connections
            .or(spec.clients)
            .unwrap_or(CONNECTIONS_DEFAULT),
        keys: spec.keys,
        bucket: &spec.bucket,
        warmup: Duration::from_secs(run.map_or(0, |run| run.warmup)),
        duration: if run.is_some() { duration } else { None },
        rate: measure.target.or(spec.target),
    };
    let progress = if std::io::stderr().is_terminal() {
        PROGRESS_SECONDS.0
    } else {
        PROGRESS_SECONDS.1
    };
    let progress = Progress {
        every_seconds: Some(spec.status_seconds.unwrap_or(progress)),
        print: |line| eprintln!("{line}"),
    };
    if !crew.warmup.is_zero() {
        eprintln!("warming up for {} s", crew.warmup.as_secs());
    }
    let hdr = measure.hdr.as_deref();
    let report = with_hdr_log(hdr, SystemTime::now() + crew.warmup, |hdr| {
        let mut collector = Collector::new(target.threads, hdr, progress);
        let (started, ended, _) =
            crew.work::<S, Traffic>(plan, &mut |second| collector.add(second))?;
        collector.finish()?;
        let from = started + crew.warmup;
        Ok(Report {
            phase: if run.is_some() { "run" } else { "load" }.into(),
            environment: Environment::of_this_machine(S::who(target.server)),
            properties: properties
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            ..report(&crew, &spec, &collector, &ended, from)
        })
    })?;
    print!("{}", output::text(&report));
    if let Some(path) = &measure.json {
        let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        std::fs::write(path, json + "\n")
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(report)
}

/// How many operations a run has, and how long new ones begin.
fn extent(spec: &Spec, workload: &Workload, run: Option<&Run>) -> (Option<u64>, Option<Duration>) {
    let Some(seconds) = run.and_then(|run| run.seconds) else {
        let otherwise = spec
            .operations
            .is_none()
            .then_some(Duration::from_secs(SECONDS_DEFAULT));
        return (spec.operations, spec.seconds.or(otherwise));
    };
    // A count that was not asked for on the command line is of a file, whose user now says how long.
    let asked = |property: &String| property.trim_start().starts_with("operationcount");
    let operations = spec
        .operations
        .filter(|_| workload.properties.iter().any(asked));
    (operations, Some(Duration::from_secs(seconds)))
}

fn share(all: u64, (thread, threads): (u16, u16)) -> u64 {
    let (thread, threads) = (u64::from(thread), u64::from(threads));
    all / threads + u64::from(thread < all % threads)
}

/// What was measured; who and where is for the caller to say.
fn report(
    crew: &Crew<'_>,
    spec: &Spec,
    collector: &Collector<'_>,
    ended: &[Ended],
    from: Instant,
) -> Report {
    let end = ended.iter().map(|ended| ended.at).max().unwrap_or(from);
    let elapsed = end
        .saturating_duration_since(from)
        .max(Duration::from_millis(1));
    let seconds = elapsed.as_secs_f64();
    let sum = |of: fn(&Ended) -> u64| ended.iter().map(of).sum();
    let told = spec.interval.unwrap_or(match crew.rate {
        Some(_) => spec::Interval::Both,
        None => spec::Interval::Op,
    });
    // A closed loop has no intended times.
    let told = if crew.rate.is_some() {
        told
    } else {
        spec::Interval::Op
    };
    let operation = |(kind, measured): (&Kind, _)| {
        let operation = Operation::new(measured, seconds, told, &spec.percentiles);
        (kind.name().to_string(), operation)
    };
    let total = &collector.total;
    Report {
        format: FORMAT.into(),
        phase: String::new(),
        overall: Overall {
            run_ms: elapsed.as_millis() as u64,
            throughput: total.operations as f64 / seconds,
            operations: total.operations,
            errors: total.failures(),
            connections_lost: sum(|ended| ended.connections_lost),
            warmup_seconds: crew.warmup.as_secs(),
            target: crew.rate,
            not_begun: sum(|ended| ended.not_begun),
        },
        operations: total.kinds.iter().map(operation).collect(),
        seconds: collector.rows.clone(),
        checks: Checks {
            foreign_values: sum(|ended| ended.foreign_values),
            stale_gets: sum(|ended| ended.stale_gets),
        },
        generator: Generator::new(ended),
        environment: Environment::default(),
        properties: BTreeMap::new(),
    }
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
    let target = &options.target;
    let naming = ledger.naming.clone().unwrap_or_default();
    let crew = Crew {
        target,
        connections: target.connections.unwrap_or(CONNECTIONS_DEFAULT),
        keys: naming.keys,
        bucket: &naming.bucket,
        warmup: Duration::ZERO,
        duration: None,
        rate: None,
    };
    let threads = usize::from(target.threads);
    let plan = |thread: u16| {
        let mine = ledger
            .keys
            .iter()
            .skip(usize::from(thread))
            .step_by(threads);
        Verifier::new(
            naming.keys,
            mine.map(|(number, expected)| (*number, expected.clone())),
        )
    };
    let (_, _, plans) = crew.work::<S, Verifier>(plan, &mut |_| Ok(()))?;
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
        let keys = ledger
            .naming
            .as_ref()
            .map_or(KeyNames::default(), |naming| naming.keys);
        text += &format!("for example {}\n", keys.text(number));
    }
    text
}

/// The threads of a command, and what they have in common.
struct Crew<'a> {
    target: &'a Target,
    connections: u32,
    keys: KeyNames,
    bucket: &'a [u8],
    warmup: Duration,
    duration: Option<Duration>,
    rate: Option<f64>,
}

impl Crew<'_> {
    /// Runs a plan on each thread, takes what they hand over meanwhile; returns when they began.
    fn work<S: Session, P: Plan + Send>(
        &self,
        plan: impl Fn(u16) -> P,
        take: &mut dyn FnMut(Second) -> Result<(), String>,
    ) -> Result<(Instant, Vec<Ended>, Vec<P>), String> {
        let (report, handed) = channel();
        let mut jobs = Vec::new();
        for job in self.jobs(report)? {
            let plan = plan(job.thread);
            jobs.push((job, plan));
        }
        // Making the plans took a while.
        let start = Instant::now();
        let ended: Vec<Result<(Ended, P), String>> = std::thread::scope(|scope| {
            let run = |(job, mut plan): (Job, P)| {
                move || drive::<S, P>(&Job { start, ..job }, &mut plan).map(|ended| (ended, plan))
            };
            let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(run(job))).collect();
            let taken = handed.iter().try_for_each(take);
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err("a thread panicked".to_string()))
            };
            let mut ended: Vec<_> = threads.into_iter().map(join).collect();
            ended.extend(taken.err().map(Err));
            ended
        });
        let ended: Result<Vec<(Ended, P)>, String> = ended.into_iter().collect();
        let (ended, plans) = ended?.into_iter().unzip();
        Ok((start, ended, plans))
    }

    fn jobs(&self, report: Sender<Second>) -> Result<Vec<Job>, String> {
        let target = self.target;
        let timeout = Duration::from_secs(target.timeout);
        // One attempt that can be told about, before threads try for ever.
        std::net::TcpStream::connect_timeout(&target.server, timeout).map_err(|error| {
            format!(
                "cannot reach {}: {error}; is the node started?",
                target.server
            )
        })?;
        let route = Route::of(target.server, target.route, (self.keys, self.bucket))?;
        let job = |thread: u16| {
            let of = (thread, target.threads);
            let cpu = target
                .cpu
                .get(usize::from(thread) % target.cpu.len().max(1));
            Ok(Job {
                thread,
                route: route.clone(),
                connections: options::connections_of(self.connections, of)? as usize,
                depth: target.depth as usize,
                start: Instant::now(),
                warmup: self.warmup,
                duration: self.duration,
                pace: self.rate.map(|rate| Pace::new(rate, of)),
                timeout,
                cpu: cpu.copied(),
                report: Some(report.clone()),
            })
        };
        (0..target.threads).map(job).collect()
    }
}

fn random_u64() -> Result<u64, String> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| format!("cannot read /dev/urandom: {error}"))?;
    Ok(u64::from_le_bytes(bytes))
}
