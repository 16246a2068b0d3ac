//! What was measured, and how it is printed.

use crate::environment::Environment;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Latencies are kept in nanoseconds, to three digits, up to a minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// A thread that was on its CPU for more than this share of the run measured itself as much as the node.
const BUSY_SHARE_MAX: f64 = 0.9;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Get,
    Put,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Put => "put",
        }
    }
}

/// Counts of one thread, and of all after `merge`.
pub struct Stats {
    latencies: BTreeMap<Kind, Histogram<u64>>,
    /// (kind, how it ended) -> requests. Those that ended well are in it too.
    endings: BTreeMap<(Kind, String), u64>,
    /// Values read that no put of this key made.
    pub foreign_values: u64,
    /// Gets that showed less than what was acknowledged before they were sent.
    pub stale_gets: u64,
    pub connections_lost: u64,
    /// Time each thread was on a CPU.
    pub busy: Vec<Duration>,
}

impl Stats {
    pub fn new() -> Stats {
        let histogram = || {
            // These bounds are constants, and valid.
            Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("constant bounds")
        };
        Stats {
            latencies: [Kind::Get, Kind::Put]
                .map(|kind| (kind, histogram()))
                .into(),
            endings: BTreeMap::new(),
            foreign_values: 0,
            stale_gets: 0,
            connections_lost: 0,
            busy: Vec::new(),
        }
    }

    /// A request that was answered; those that changed or found nothing by an error do not count into the latencies.
    pub fn answered(&mut self, kind: Kind, ending: &str, good: bool, latency: Duration) {
        self.ended(kind, ending);
        if good && let Some(histogram) = self.latencies.get_mut(&kind) {
            histogram.saturating_record(latency.as_nanos().min(u128::from(u64::MAX)) as u64);
        }
    }

    /// A request that ended without an answer.
    pub fn ended(&mut self, kind: Kind, ending: &str) {
        match self
            .endings
            .iter_mut()
            .find(|((k, e), _)| *k == kind && e == ending)
        {
            Some((_, count)) => *count += 1,
            None => drop(self.endings.insert((kind, ending.to_string()), 1)),
        }
    }

    pub fn merge(&mut self, other: Stats) {
        for (kind, histogram) in &other.latencies {
            if let Some(mine) = self.latencies.get_mut(kind) {
                // Same bounds: nothing is out of range.
                mine.add(histogram).expect("histograms of the same bounds");
            }
        }
        for (ending, count) in other.endings {
            *self.endings.entry(ending).or_default() += count;
        }
        self.foreign_values += other.foreign_values;
        self.stale_gets += other.stale_gets;
        self.connections_lost += other.connections_lost;
        self.busy.extend(other.busy);
    }

    pub fn report(&self, elapsed: Duration, environment: Environment) -> Report {
        let seconds = elapsed.as_secs_f64();
        let kinds = self
            .latencies
            .iter()
            .filter(|(_, histogram)| !histogram.is_empty());
        let operations: BTreeMap<&'static str, Operation> = kinds
            .map(|(kind, histogram)| (kind.name(), Operation::new(histogram, seconds)))
            .collect();
        let busy: Vec<f64> = self
            .busy
            .iter()
            .map(|busy| busy.as_secs_f64() / seconds)
            .collect();
        Report {
            seconds,
            per_second: operations
                .values()
                .map(|operation| operation.per_second)
                .sum(),
            operations,
            endings: self
                .endings
                .iter()
                .map(|((kind, ending), count)| (format!("{} {ending}", kind.name()), *count))
                .collect(),
            foreign_values: self.foreign_values,
            stale_gets: self.stale_gets,
            connections_lost: self.connections_lost,
            generator_is_bottleneck: busy.iter().any(|share| *share > BUSY_SHARE_MAX),
            thread_cpu_shares: busy,
            environment,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Operation {
    pub count: u64,
    pub per_second: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Operation {
    fn new(histogram: &Histogram<u64>, seconds: f64) -> Operation {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Operation {
            count: histogram.len(),
            per_second: histogram.len() as f64 / seconds,
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub seconds: f64,
    /// Of requests that ended well.
    pub per_second: f64,
    pub operations: BTreeMap<&'static str, Operation>,
    pub endings: BTreeMap<String, u64>,
    pub foreign_values: u64,
    pub stale_gets: u64,
    pub connections_lost: u64,
    pub thread_cpu_shares: Vec<f64>,
    pub generator_is_bottleneck: bool,
    pub environment: Environment,
}

impl Report {
    /// The tables for eyes.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| out += &(text + "\n");
        line(format!(
            "{:<5}{:>12}{:>11}{:>10}{:>10}{:>10}{:>10}{:>11}{:>11}",
            "", "count", "per s", "mean us", "p50", "p90", "p99", "p99.9", "max"
        ));
        for (name, o) in &self.operations {
            let mut row = format!("{name:<5}{:>12}{:>11.0}", o.count, o.per_second);
            for (width, value) in [
                (10, o.mean_us),
                (10, o.p50_us),
                (10, o.p90_us),
                (10, o.p99_us),
                (11, o.p999_us),
                (11, o.max_us),
            ] {
                // Writing to a string does not fail.
                let _ = write!(row, "{value:>width$.0}");
            }
            line(row);
        }
        line(format!(
            "{:.0} requests/s over {:.1} s",
            self.per_second, self.seconds
        ));
        for (ending, count) in &self.endings {
            line(format!("  {ending}: {count}"));
        }
        let shares: Vec<String> = self
            .thread_cpu_shares
            .iter()
            .map(|share| format!("{:.0} %", share * 100.0))
            .collect();
        line(format!(
            "generator threads on their CPU: {}",
            shares.join(", ")
        ));
        if self.generator_is_bottleneck {
            line("NOTE: the generator was the bottleneck; give it more --threads, or the node was not measured".into());
        }
        for (count, what) in [
            (self.connections_lost, "connections were lost"),
            (
                self.foreign_values,
                "values read were never written to their key",
            ),
            (
                self.stale_gets,
                "gets showed less than was acknowledged before them",
            ),
        ] {
            if count > 0 {
                line(format!("WARNING: {count} {what}"));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(busy_ms: u64) -> Report {
        let mut all = Stats::new();
        for half in 0..2 {
            let mut stats = Stats::new();
            for i in 0..500u64 {
                let latency = Duration::from_micros(half * 500 + i + 1);
                stats.answered(Kind::Get, "ok", true, latency);
            }
            stats.answered(Kind::Put, "overloaded", false, Duration::from_secs(9));
            stats.ended(Kind::Put, "no answer");
            stats.busy.push(Duration::from_millis(busy_ms * half));
            all.merge(stats);
        }
        all.report(Duration::from_secs(2), Environment::default())
    }

    #[test]
    fn percentiles_and_rates_are_of_what_ended_well() {
        let report = report(100);
        let get = &report.operations["get"];
        assert_eq!((get.count, get.per_second), (1000, 500.0));
        for (value, wanted) in [
            (get.p50_us, 500.0),
            (get.p99_us, 990.0),
            (get.max_us, 1000.0),
        ] {
            assert!((value / wanted - 1.0).abs() < 0.002, "{value} for {wanted}");
        }
        assert!(!report.operations.contains_key("put"), "no put ended well");
        assert_eq!(report.endings["put overloaded"], 2);
        assert_eq!(report.endings["put no answer"], 2);
    }

    #[test]
    fn a_busy_generator_says_so() {
        assert!(!report(100).generator_is_bottleneck);
        let busy = report(1900);
        assert!(busy.generator_is_bottleneck && busy.text().contains("bottleneck"));
        assert_eq!(busy.thread_cpu_shares, [0.0, 0.95]);
    }
}
