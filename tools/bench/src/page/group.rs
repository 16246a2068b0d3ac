//! Runs of one thing: what they have in common, and how far they spread.

use crate::results::{Latency, Operation, Report};
use std::collections::BTreeSet;

pub struct Group {
    pub name: String,
    pub runs: Vec<Report>,
}

/// A figure of several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub runs: usize,
}

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (first, last) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Spread {
            median,
            min: first,
            max: last,
            runs: values.len(),
        })
    }
}

impl Group {
    pub fn new(name: String, runs: Vec<Report>) -> Group {
        Group { name, runs }
    }

    pub fn of(&self, figure: impl Fn(&Report) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(figure))
    }

    pub fn kinds(&self) -> BTreeSet<&str> {
        let names = self.runs.iter().flat_map(|run| run.operations.keys());
        names.map(String::as_str).collect()
    }

    /// The run whose throughput is the median: the one whose curves are drawn.
    pub fn typical(&self) -> Option<&Report> {
        let mut runs: Vec<&Report> = self.runs.iter().collect();
        runs.sort_by(|a, b| a.overall.throughput.total_cmp(&b.overall.throughput));
        runs.get(runs.len().saturating_sub(1) / 2).copied()
    }
}

/// The latencies of a kind as seen from outside: of an open loop those from when operations should have begun.
pub fn latency(operation: &Operation) -> Option<&Latency> {
    operation
        .intended_us
        .as_ref()
        .or(operation.latency_us.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_odd_and_even_counts() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(
            of(&[3.0, 1.0, 2.0]).map(|s| (s.median, s.min, s.max)),
            Some((2.0, 1.0, 3.0))
        );
        assert_eq!(of(&[4.0, 1.0]).map(|s| s.median), Some(2.5));
    }
}
