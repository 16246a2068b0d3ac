//! What a load or run prints at its end: YCSB's text, for eyes and for the scripts that read it.

use crate::results::{Latency, Operation, Report};
use std::fmt::Write;

/// `[READ], AverageLatency(us), 123.4`
struct Block<'a> {
    out: &'a mut String,
    name: String,
}

impl<'a> Block<'a> {
    fn new(out: &'a mut String, name: &str) -> Block<'a> {
        let name = name.to_string();
        Block { out, name }
    }

    fn line(&mut self, what: &str, value: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.out, "[{}], {what}, {value}", self.name);
    }

    fn latency(&mut self, latency: &Latency) {
        self.line("Operations", latency.count);
        self.line("AverageLatency(us)", format!("{:.1}", latency.mean));
        self.line("MinLatency(us)", format!("{:.0}", latency.min));
        self.line("MaxLatency(us)", format!("{:.0}", latency.max));
        for (percentile, value) in &latency.percentiles {
            self.line(
                &format!("{}PercentileLatency(us)", ordinal(*percentile)),
                format!("{value:.0}"),
            );
        }
    }
}

/// 95 is the 95th, 99.9 the 99.9th.
fn ordinal(percentile: f64) -> String {
    let whole = percentile as u64;
    let ending = match (percentile.fract() == 0.0, whole % 100, whole % 10) {
        (false, _, _) | (_, 11..=13, _) => "th",
        (_, _, 1) => "st",
        (_, _, 2) => "nd",
        (_, _, 3) => "rd",
        _ => "th",
    };
    format!("{percentile}{ending}")
}

pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let overall = &report.overall;
    {
        let block = &mut Block::new(&mut out, "OVERALL");
        block.line("RunTime(ms)", overall.run_ms);
        block.line("Throughput(ops/sec)", format!("{:.1}", overall.throughput));
        block.line("Operations", overall.operations);
        block.line("Errors", overall.errors);
        if let Some(target) = overall.target {
            block.line("Target(ops/sec)", target);
            block.line("NotBegun", overall.not_begun);
        }
    }
    for (name, operation) in &report.operations {
        blocks(name, operation, &mut out);
    }
    out += &format!("{}\n", report.generator.message);
    if overall.not_begun > 0 {
        out += &format!(
            "WARNING: {} operations were due and never began: the target is above what node, connections and depth allow\n",
            overall.not_begun
        );
    }
    for (count, what) in [
        (overall.connections_lost, "connections were lost"),
        (
            report.checks.foreign_values,
            "values read were never written to their key",
        ),
        (
            report.checks.stale_gets,
            "gets showed less than was acknowledged before them",
        ),
    ] {
        if count > 0 {
            out += &format!("WARNING: {count} {what}\n");
        }
    }
    out
}

fn blocks(name: &str, operation: &Operation, out: &mut String) {
    // With measurement.interval=intended, those times stand under the plain name, as in YCSB.
    let (first, second) = match &operation.latency_us {
        Some(latency) => (Some(latency), operation.intended_us.as_ref()),
        None => (operation.intended_us.as_ref(), None),
    };
    let mut plain = Block::new(out, name);
    if let Some(latency) = first {
        plain.latency(latency);
    }
    for (how, count) in &operation.returns {
        plain.line(&format!("Return={how}"), count);
    }
    if let Some(latency) = second {
        Block::new(out, &format!("Intended-{name}")).latency(latency);
    }
    if let Some(latency) = &operation.failed_us {
        Block::new(out, &format!("{name}-FAILED")).latency(latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Checks, FORMAT, Generator, Overall};

    #[test]
    fn the_text_is_that_of_ycsb() {
        let latency = |p50| Latency {
            count: 10,
            mean: 12.34,
            min: 1.0,
            max: 99.0,
            percentiles: vec![(50.0, p50), (99.0, 80.0), (99.9, 90.0)],
            ..Latency::default()
        };
        let operation = Operation {
            count: 10,
            throughput: 5.0,
            errors: 1,
            latency_us: Some(latency(11.0)),
            intended_us: Some(latency(12.0)),
            failed_us: Some(latency(13.0)),
            returns: [("OK".to_string(), 10), ("FULL".to_string(), 1)].into(),
        };
        let report = Report {
            format: FORMAT.into(),
            phase: "run".into(),
            overall: Overall {
                run_ms: 2000,
                throughput: 5.0,
                operations: 10,
                errors: 1,
                target: Some(8.0),
                not_begun: 5,
                ..Overall::default()
            },
            operations: [("READ".to_string(), operation)].into(),
            seconds: Vec::new(),
            checks: Checks {
                stale_gets: 2,
                ..Checks::default()
            },
            generator: Generator::default(),
            environment: Default::default(),
            properties: Default::default(),
        };
        let text = text(&report);
        for line in [
            "[OVERALL], RunTime(ms), 2000",
            "[OVERALL], Throughput(ops/sec), 5.0",
            "[READ], Operations, 10",
            "[READ], AverageLatency(us), 12.3",
            "[READ], MinLatency(us), 1",
            "[READ], 50thPercentileLatency(us), 11",
            "[READ], 99.9thPercentileLatency(us), 90",
            "[READ], Return=OK, 10",
            "[READ], Return=FULL, 1",
            "[Intended-READ], 50thPercentileLatency(us), 12",
            "[READ-FAILED], 50thPercentileLatency(us), 13",
            "WARNING: 2 gets showed less than was acknowledged before them",
        ] {
            assert!(text.lines().any(|each| each == line), "{line}\n{text}");
        }
        assert!(text.contains("5 operations were due and never began"));
        assert_eq!(
            [1.0, 2.0, 11.0, 95.0, 99.5].map(ordinal),
            ["1st", "2nd", "11th", "95th", "99.5th"]
        );
    }
}
