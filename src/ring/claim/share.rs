//! How many virtual nodes each member should own: its weight, as far as replicas can follow it.
//!
//! A node holds each key once at most, and a preference list takes a node of each zone before it takes a second one.
//! So no node can hold more than one part in N of all replicas, and the share of a zone lies between two bounds.

use crate::base::limits;

/// One member, as far as shares mind.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub weight: u16,
    pub zone: usize,
}

/// Halvings of an interval until a factor is found: more than a double has bits.
const HALVINGS: u32 = 80;

/// Replicas an arc that each member should hold: sums to `replicas`, or to the number of members if that is less;
/// none exceeds 1.
pub fn feasible(members: &[Share], replicas: u8) -> Vec<f64> {
    let zones = members
        .iter()
        .map(|member| member.zone + 1)
        .max()
        .unwrap_or(0);
    let replicas = usize::from(replicas).min(members.len());
    let bounds = zone_bounds(members, zones, replicas);
    let demand = |zone: usize, factor: f64| -> f64 {
        let of_zone = members.iter().filter(|member| member.zone == zone);
        of_zone
            .map(|member| (factor * f64::from(member.weight)).min(1.0))
            .sum()
    };
    let bounded =
        |zone: usize, factor: f64| demand(zone, factor).clamp(bounds[zone].0, bounds[zone].1);
    let all = factor(replicas as f64, |factor| {
        (0..zones).map(|zone| bounded(zone, factor)).sum()
    });
    let factors: Vec<f64> = (0..zones)
        .map(|zone| factor(bounded(zone, all), |factor| demand(zone, factor)))
        .collect();
    let share = |member: &Share| (factors[member.zone] * f64::from(member.weight)).min(1.0);
    members.iter().map(share).collect()
}

/// The factor at which a growing `sum` comes to `wanted`.
fn factor(wanted: f64, sum: impl Fn(f64) -> f64) -> f64 {
    // At 1 the lightest member holds a replica of everything.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if sum(middle) < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The fewest and the most nodes of each zone in a preference list: what rounds over the zones come to.
fn zone_bounds(members: &[Share], zones: usize, replicas: usize) -> Vec<(f64, f64)> {
    let mut nodes = vec![0; zones];
    members.iter().for_each(|member| nodes[member.zone] += 1);
    let (mut left, mut round) = (replicas, 0);
    loop {
        let open = nodes.iter().filter(|&&nodes| nodes > round).count();
        if open > left || open == 0 {
            // The last round has places for some of the open zones only.
            let last = usize::from(left > 0);
            let bounds = |&nodes: &usize| (nodes.min(round) as f64, nodes.min(round + last) as f64);
            return nodes.iter().map(bounds).collect();
        }
        left -= open;
        round += 1;
    }
}

/// Whole virtual nodes: each member gets its share rounded down or up; up first for those who own that many already, so
/// that no arc moves for the sake of rounding; among them for those who give others even then, so that a joiner has
/// many donors.
pub fn whole(shares: &[f64], virtual_nodes: usize, owned: &[usize]) -> Vec<usize> {
    assert!(shares.len() == owned.len() && shares.len() <= limits::MEMBERS_MAX);
    let sum: f64 = shares.iter().sum();
    let exact: Vec<f64> = shares
        .iter()
        .map(|share| share / sum * virtual_nodes as f64)
        .collect();
    // A share that is whole but for the last bits of a double is whole.
    let mut targets: Vec<usize> = exact.iter().map(|exact| (exact + 1e-6) as usize).collect();
    let mut order: Vec<usize> = (0..targets.len()).collect();
    let part = |member: usize| exact[member] - targets[member] as f64;
    order.sort_by(|&a, &b| {
        let surplus = |member: usize| match part(member) > 1e-6 {
            true => owned[member].saturating_sub(targets[member]).min(2),
            false => 0,
        };
        surplus(b)
            .cmp(&surplus(a))
            .then(part(b).total_cmp(&part(a)))
    });
    let left = virtual_nodes - targets.iter().sum::<usize>();
    assert!(left <= order.len());
    order[..left]
        .iter()
        .for_each(|&member| targets[member] += 1);
    targets
}
