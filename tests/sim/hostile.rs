//! Limits of the node under clients that want too much, in a few worlds each.

use armilla::sim::hostile::{buffers, deadlines, judge, poisoned_stop};
use armilla::sim::storage::{lowered_limit, overwrites};

const SEEDS: std::ops::Range<u64> = 0..5;

fn keeps(scenario: fn(u64) -> Vec<String>) {
    for seed in SEEDS {
        let broken = judge(scenario, seed, None);
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
    }
}

#[test]
fn every_request_is_answered_by_its_deadline_on_a_disk_that_hangs() {
    keeps(deadlines);
}

#[test]
fn buffers_are_bounded_and_given_back() {
    keeps(buffers);
}

#[test]
fn a_log_that_is_poisoned_during_a_stop_ends_in_order() {
    keeps(poisoned_stop);
}

#[test]
fn what_superseded_a_value_is_durable_before_its_segment_goes() {
    keeps(overwrites);
}

#[test]
fn a_lowered_limit_of_values_keeps_no_segment_from_being_given_back() {
    keeps(lowered_limit);
}
