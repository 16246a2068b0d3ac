//! The result of a run as it stands in a file: what `--json` writes and `report` reads.

use crate::environment::Environment;
use crate::spec::Interval as Told;
use crate::stats::{Ended, Interval, Measured};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const FORMAT: &str = "armilla-bench 1";

/// A thread that was on its CPU for more than this share of the run measured itself as much as the node.
const BUSY_SHARE_MAX: f64 = 0.9;

/// Percentiles of a curve: ever closer to 100, as each nine costs ten times the samples.
const CURVE: &[f64] = &[
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 97.0, 98.0,
    99.0, 99.25, 99.5, 99.7, 99.8, 99.9, 99.95, 99.97, 99.98, 99.99, 99.995, 99.998, 99.999, 100.0,
];

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub format: String,
    /// `load` or `run`.
    pub phase: String,
    pub overall: Overall,
    pub operations: BTreeMap<String, Operation>,
    pub seconds: Vec<Second>,
    pub checks: Checks,
    pub generator: Generator,
    pub environment: Environment,
    pub properties: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Overall {
    /// Measured time: the warm-up is not in it.
    pub run_ms: u64,
    /// Operations a second that ended well; a read-modify-write is one.
    pub throughput: f64,
    pub operations: u64,
    pub errors: u64,
    pub connections_lost: u64,
    pub warmup_seconds: u64,
    /// Of an open loop: the rate that was wanted.
    pub target: Option<f64>,
    /// Of an open loop: operations that were due and never began.
    pub not_begun: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Operation {
    /// Of those that ended well, as are the latencies; the others are `errors`.
    pub count: u64,
    pub throughput: f64,
    pub errors: u64,
    /// From when it was sent.
    pub latency_us: Option<Latency>,
    /// Of an open loop: from when it should have been.
    pub intended_us: Option<Latency>,
    pub failed_us: Option<Latency>,
    /// How each ended.
    pub returns: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub mean: f64,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub p9999: f64,
    pub max: f64,
    /// Those that hdrhistogram.percentiles asks for.
    pub percentiles: Vec<(f64, f64)>,
    pub curve: Vec<(f64, f64)>,
}

/// What ended in one second of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    pub second: u64,
    pub operations: u64,
    pub errors: u64,
    pub kinds: BTreeMap<String, SecondOf>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SecondOf {
    pub count: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Checks {
    /// Values read that no put of their key made.
    pub foreign_values: u64,
    /// Gets that showed less than what was acknowledged before they were sent.
    pub stale_gets: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Generator {
    /// Of each thread, from 0 to 1.
    pub cpu_shares: Vec<f64>,
    pub bottleneck: bool,
    pub message: String,
}

impl Generator {
    pub fn new(ended: &[Ended]) -> Generator {
        let share =
            |ended: &Ended| ended.busy.as_secs_f64() / ended.measured.as_secs_f64().max(1e-9);
        let cpu_shares: Vec<f64> = ended.iter().map(share).collect();
        let bottleneck = cpu_shares.iter().any(|share| *share > BUSY_SHARE_MAX);
        let told: Vec<String> = cpu_shares
            .iter()
            .map(|share| format!("{:.0} %", share * 100.0))
            .collect();
        let mut message = format!("generator threads on their CPU: {}", told.join(", "));
        if bottleneck {
            message += "; the generator is the bottleneck: give it more --threads, or the node was not measured";
        }
        Generator {
            cpu_shares,
            bottleneck,
            message,
        }
    }
}

impl Operation {
    pub fn new(measured: &Measured, seconds: f64, told: Told, percentiles: &[f64]) -> Operation {
        let latency = |histogram: &Option<Histogram<u64>>| {
            histogram
                .as_ref()
                .map(|histogram| Latency::new(histogram, percentiles))
        };
        let mut returns = BTreeMap::new();
        if measured.count() > 0 {
            returns.insert("OK".to_string(), measured.count());
        }
        for (why, count) in &measured.failures {
            *returns.entry(return_name(why)).or_default() += count;
        }
        Operation {
            count: measured.count(),
            throughput: measured.count() as f64 / seconds,
            errors: measured.failure_count(),
            latency_us: latency(&measured.sent).filter(|_| told != Told::Intended),
            intended_us: latency(&measured.intended).filter(|_| told != Told::Op),
            failed_us: latency(&measured.failed),
            returns,
        }
    }
}

impl Latency {
    pub fn new(histogram: &Histogram<u64>, percentiles: &[f64]) -> Latency {
        let at = |percentile: f64| histogram.value_at_percentile(percentile) as f64 / 1e3;
        let all = |percentiles: &[f64]| percentiles.iter().map(|p| (*p, at(*p))).collect();
        Latency {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            min: histogram.min() as f64 / 1e3,
            p50: at(50.0),
            p90: at(90.0),
            p95: at(95.0),
            p99: at(99.0),
            p999: at(99.9),
            p9999: at(99.99),
            max: histogram.max() as f64 / 1e3,
            percentiles: all(percentiles),
            curve: all(CURVE),
        }
    }
}

impl Second {
    pub fn new(second: u64, interval: &Interval) -> Second {
        let kind = |measured: &Measured| {
            // Where only times from the intended start are told, these are of the same operations.
            let histogram = measured.sent.as_ref()?;
            let at = |percentile: f64| histogram.value_at_percentile(percentile) as f64 / 1e3;
            Some(SecondOf {
                count: histogram.len(),
                p50_us: at(50.0),
                p99_us: at(99.0),
                p999_us: at(99.9),
                max_us: histogram.max() as f64 / 1e3,
            })
        };
        let kinds = interval.kinds.iter();
        let kinds =
            kinds.filter_map(|(name, measured)| Some((name.name().to_string(), kind(measured)?)));
        Second {
            second,
            operations: interval.operations,
            errors: interval.failures(),
            kinds: kinds.collect(),
        }
    }
}

/// As YCSB writes them: `ValueTooLarge` and `connection lost` become `VALUE_TOO_LARGE` and `CONNECTION_LOST`.
fn return_name(why: &str) -> String {
    let mut name = String::new();
    for (index, letter) in why.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            name.push('_');
        }
        match letter {
            ' ' => name.push('_'),
            letter => name.extend(letter.to_uppercase()),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn ended(busy_ms: u64) -> Ended {
        Ended {
            foreign_values: 0,
            stale_gets: 0,
            connections_lost: 0,
            not_begun: 0,
            at: Instant::now(),
            measured: Duration::from_secs(2),
            busy: Duration::from_millis(busy_ms),
        }
    }

    #[test]
    fn a_busy_generator_says_so() {
        let idle = Generator::new(&[ended(0), ended(100)]);
        assert!(!idle.bottleneck && !idle.message.contains("bottleneck"));
        let busy = Generator::new(&[ended(0), ended(1900)]);
        assert!(busy.bottleneck && busy.message.contains("the generator is the bottleneck"));
        assert_eq!(busy.cpu_shares, [0.0, 0.95]);
    }

    #[test]
    fn percentiles_are_in_microseconds_of_what_ended_well() {
        let mut measured = Measured::default();
        let histogram = measured.sent.get_or_insert_with(crate::stats::histogram);
        for us in 1..=1000 {
            histogram.saturating_record(us * 1000);
        }
        measured.failures.insert("ValueTooLarge".into(), 2);
        measured.failures.insert("connection lost".into(), 1);
        let operation = Operation::new(&measured, 2.0, Told::Op, &[50.0]);
        assert_eq!(
            (operation.count, operation.errors, operation.throughput),
            (1000, 3, 500.0)
        );
        let returns: Vec<_> = operation
            .returns
            .iter()
            .map(|(name, count)| (name.as_str(), *count))
            .collect();
        assert_eq!(
            returns,
            [("CONNECTION_LOST", 1), ("OK", 1000), ("VALUE_TOO_LARGE", 2)]
        );
        let latency = operation.latency_us.unwrap();
        for (value, wanted) in [
            (latency.p50, 500.0),
            (latency.p99, 990.0),
            (latency.max, 1000.0),
        ] {
            assert!((value / wanted - 1.0).abs() < 0.002, "{value} for {wanted}");
        }
        assert_eq!(latency.percentiles, [(50.0, latency.p50)]);
    }
}
