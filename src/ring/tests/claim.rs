//! The claim over random histories of members, and what must hold after each change.
//!
//! A long run, by numbers of histories; it says after each thousand where to go on:
//! `ARMILLA_CLAIM_HISTORIES=0..100000 cargo test --release --lib claim::long -- --ignored --nocapture`

use crate::base::planted::{Planted, disable_all, enable};
use crate::base::rng::Rng;
use crate::ring::claim::{Plan, Warning, feasible_loads, form, loads, plan};
use crate::ring::member::{Member, NodeId};
use crate::ring::owners::Ring;
use crate::ring::position::VirtualNode;
use std::collections::BTreeSet;

const CHANGES: u64 = 8;

fn member(id: u64, zone: String, weight: u16) -> Member {
    let [.., a, b, c] = id.to_be_bytes();
    Member {
        id: NodeId(u128::from(id)),
        address: ([10, a, b, c], 7700).into(),
        weight,
        zone,
        shards: 2,
    }
}

fn equal(count: u64, zones: u64) -> Vec<Member> {
    (0..count)
        .map(|id| member(id, format!("z{}", id % zones), 100))
        .collect()
}

/// What the bounds of a ring depend on.
struct Kind {
    members: usize,
    replicas: usize,
    one_zone: bool,
    equal: bool,
    /// Arcs of the member that has fewest.
    fewest: f64,
    /// Whether a layout without a node twice within N arcs is there to be found: nobody has more than one arc in N, and
    /// there is a choice of whom to put next.
    roomy: bool,
}

fn kind(ring: &Ring) -> Kind {
    let replicas = usize::from(ring.value().replicas);
    let members = ring.members().len();
    let feasible = feasible_loads(ring);
    let first = &ring.members()[0];
    let most = feasible.iter().copied().fold(0.0, f64::max);
    Kind {
        members,
        replicas,
        one_zone: ring
            .members()
            .iter()
            .all(|member| member.zone == first.zone),
        equal: ring
            .members()
            .iter()
            .all(|member| member.weight == first.weight),
        fewest: feasible.iter().copied().fold(f64::MAX, f64::min) / replicas as f64,
        roomy: members > replicas + 1 && most <= 0.75 * f64::from(ring.virtual_nodes()),
    }
}

/// What is wrong with a ring by itself.
fn wrong(ring: &Ring) -> Option<String> {
    let kind = kind(ring);
    let (count, replicas) = (ring.virtual_nodes(), ring.value().replicas);
    let zones: BTreeSet<&str> = ring
        .members()
        .iter()
        .map(|member| &member.zone[..])
        .collect();
    for virtual_node in (0..count).map(VirtualNode) {
        let list = ring.preference_list(virtual_node, replicas);
        let nodes: BTreeSet<_> = list.iter().collect();
        let of_zones: BTreeSet<&str> = list
            .iter()
            .map(|&index| &ring.member(index).zone[..])
            .collect();
        if kind.fewest >= 1.0 {
            if nodes.len() != kind.members.min(kind.replicas) {
                return Some(format!("{virtual_node:?} has {} replicas", nodes.len()));
            }
            if of_zones.len() != zones.len().min(nodes.len()) {
                return Some(format!("{virtual_node:?} is in {} zones", of_zones.len()));
            }
        }
        let again = (1..u32::from(replicas)).find(|steps| {
            let other = VirtualNode((virtual_node.0 + steps) % count);
            ring.owner(virtual_node) == ring.owner(other)
        });
        if let Some(steps) = again
            && kind.roomy
            && kind.one_zone
        {
            return Some(format!(
                "{virtual_node:?} has the owner of the one {steps} further"
            ));
        }
    }
    if kind.one_zone && kind.roomy {
        for (load, feasible) in loads(ring).into_iter().zip(feasible_loads(ring)) {
            let off = (load as f64 - feasible).abs();
            if off > (0.03 * feasible).max(f64::from(replicas)) {
                return Some(format!("a load of {load}, feasible are {feasible:.1}"));
            }
        }
    }
    if kind.one_zone && kind.equal && (8..=32).contains(&kind.members) && kind.fewest >= 30.0 {
        return worst_fallback(ring);
    }
    None
}

/// When one fails, no other is the first to stand in for more than 2/(S-1) of what it holds.
fn worst_fallback(ring: &Ring) -> Option<String> {
    let (members, replicas) = (ring.members().len(), ring.value().replicas);
    let mut stands_in = vec![0u64; members * members];
    for virtual_node in (0..ring.virtual_nodes()).map(VirtualNode) {
        let first = ring.fallbacks(virtual_node, replicas).next()?;
        for index in ring.preference_list(virtual_node, replicas) {
            stands_in[usize::from(index.0) * members + usize::from(first.0)] += 1;
        }
    }
    let bound = |load: u64| (2 * load).div_ceil(members as u64 - 1);
    let of = |(failed, load): (usize, u64)| {
        let worst = stands_in[failed * members..][..members]
            .iter()
            .max()
            .copied()
            .unwrap_or(0);
        (worst > bound(load)).then(|| format!("one stands in for {worst} of {load} arcs"))
    };
    loads(ring).into_iter().enumerate().find_map(of)
}

/// What is wrong with a change.
fn wrong_change(old: &Ring, plan: &Plan) -> Option<String> {
    let (before, after) = (kind(old), kind(&plan.ring));
    if plan.ring.epoch().0 != old.epoch().0 + 1 {
        return Some("the ring epoch is not the next one".to_owned());
    }
    let gone = |member: &&Member| plan.ring.index_of(member.id).is_none();
    if !old
        .members()
        .iter()
        .filter(gone)
        .all(|member| plan.ring.is_banned(member.id))
    {
        return Some("who left is not banned".to_owned());
    }
    let old_loads = loads(old);
    let gains = plan
        .ring
        .members()
        .iter()
        .zip(loads(&plan.ring))
        .map(|(member, load)| {
            let had = old
                .index_of(member.id)
                .map_or(0, |index| old_loads[usize::from(index.0)]);
            load.saturating_sub(had)
        });
    let least: u64 = gains.sum();
    let moves = plan.moves.len() as u64;
    // The tenth, or three virtual nodes where that is more: two swaps. With few nodes there is little choice of whom to
    // put where, and a swap leads to the next.
    let choice = after.members >= 3 * after.replicas;
    let slack = (least / if choice { 10 } else { 2 }).max(3 * after.replicas as u64);
    if before.one_zone && after.one_zone && before.roomy && after.roomy && moves > least + slack {
        return Some(format!("{moves} moves, the least are {least}"));
    }
    let joiners = plan
        .ring
        .members()
        .iter()
        .filter(|member| old.index_of(member.id).is_none());
    for joiner in joiners.filter(|_| before.roomy && after.one_zone) {
        let index = plan.ring.index_of(joiner.id).expect("it is a member");
        let taken = (0..old.virtual_nodes())
            .map(VirtualNode)
            .filter(|&at| plan.ring.owner(at) == index);
        let taken: Vec<VirtualNode> = taken.collect();
        let donors: BTreeSet<_> = taken.iter().map(|&at| old.owner(at)).collect();
        let replaced = old.members().iter().filter(gone).count() > 0;
        if !replaced
            && donors.len() < (before.members).min(8).min(taken.len())
            && after.equal
            && before.equal
        {
            return Some(format!("{} donors for {} arcs", donors.len(), taken.len()));
        }
    }
    None
}

/// Makes a cluster and changes its members; the first thing that is wrong.
fn history(seed: u64) -> Option<String> {
    let mut rng = Rng::stream(seed, "claim history", 0);
    let count = 1 << rng.range(6..9);
    let zones = if rng.one_in(2) { 1 } else { rng.range(2..6) };
    let weights: &[u16] = if rng.one_in(2) {
        &[100]
    } else {
        &[50, 100, 150, 200]
    };
    let mut next = 0;
    let mut fresh = |rng: &mut Rng| {
        next += 1;
        let weight = weights[rng.below(weights.len() as u64) as usize];
        member(next, format!("z{}", rng.below(zones)), weight)
    };
    let first = rng.range(1..20);
    let members = (0..first).map(|_| fresh(&mut rng)).collect();
    let mut ring = form(7, count, rng.range(1..5) as u8, members).expect("it holds together");
    let mut told = format!("history {seed}: formed of {first}");
    if let Some(what) = wrong(&ring) {
        return Some(format!("{told}: {what}"));
    }
    for _ in 0..CHANGES {
        let mut wanted = ring.members().to_vec();
        let some = rng.below(wanted.len() as u64) as usize;
        let change = match rng.below(5) {
            0 | 1 => "join",
            2 if wanted.len() > 1 => "leave",
            3 => "replace",
            _ => "weight",
        };
        match change {
            "join" => wanted.push(fresh(&mut rng)),
            "leave" => drop(wanted.remove(some)),
            "replace" => {
                let mut other = fresh(&mut rng);
                (other.zone, other.weight) = (wanted[some].zone.clone(), wanted[some].weight);
                wanted.remove(some);
                wanted.push(other);
            }
            _ => wanted[some].weight = weights[rng.below(weights.len() as u64) as usize],
        }
        told += &format!(", {change}");
        let plan = plan(&ring, wanted).expect("it holds together");
        if let Some(what) = wrong_change(&ring, &plan).or_else(|| wrong(&plan.ring)) {
            return Some(format!("{told}: {what}"));
        }
        ring = plan.after(&ring).expect("it was made for this ring");
    }
    None
}

#[test]
fn short() {
    let failed: Vec<String> = (0..100).filter_map(history).collect();
    assert!(
        failed.is_empty(),
        "{} of 100:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
#[ignore = "takes an hour; the head of the file tells how"]
fn long() {
    let range = std::env::var("ARMILLA_CLAIM_HISTORIES").unwrap_or("0..1000".to_owned());
    let (first, end) = range.split_once("..").expect("FIRST..END");
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let mut failed = 0;
    for seed in number(first)..number(end) {
        if let Some(what) = history(seed) {
            println!("{what}");
            failed += 1;
        }
        if (seed + 1) % 1000 == 0 {
            println!("{failed} failed; go on with {}..{end}", seed + 1);
        }
    }
    assert_eq!(failed, 0);
}

#[test]
fn thirty_equal_nodes() {
    let ring = form(7, 1024, 3, equal(30, 1)).expect("it holds together");
    assert_eq!(wrong(&ring), None);
    let loads = loads(&ring);
    let (sum, max) = (
        loads.iter().sum::<u64>(),
        loads.iter().max().expect("thirty"),
    );
    assert!(sum as f64 / 30.0 / *max as f64 >= 0.95, "{loads:?}");
    let mut wanted = ring.members().to_vec();
    wanted.push(member(99, "z0".to_owned(), 100));
    let joined = plan(&ring, wanted).expect("it holds together");
    assert_eq!(wrong_change(&ring, &joined).or(wrong(&joined.ring)), None);
    // The same question has one answer.
    let wanted = joined.ring.members().to_vec();
    assert_eq!(
        plan(&ring, wanted).expect("it holds together").ring,
        joined.ring
    );
}

#[test]
fn a_ring_grows_from_one_node() {
    let mut ring = form(7, 1024, 3, equal(1, 1)).expect("it holds together");
    for count in 2..=16 {
        let plan = plan(&ring, equal(count, 1)).expect("it holds together");
        assert_eq!(
            wrong_change(&ring, &plan).or(wrong(&plan.ring)),
            None,
            "{count} nodes"
        );
        let few = plan.warnings.contains(&Warning::FewMembers {
            members: 2,
            replicas: 3,
        });
        assert_eq!(few, count == 2);
        if count <= 3 {
            assert_eq!(
                plan.moves.len(),
                1024,
                "the joiner is filled, nothing else moves"
            );
        }
        ring = plan.after(&ring).expect("it was made for this ring");
    }
}

#[test]
fn three_zones_have_a_replica_each_and_a_small_one_is_warned_of() {
    let even = form(7, 1024, 3, equal(30, 3)).expect("it holds together");
    assert_eq!(wrong(&even), None);
    let mut wanted = equal(20, 2);
    let two = form(7, 1024, 3, wanted.clone()).expect("it holds together");
    wanted.push(member(99, "new".to_owned(), 100));
    let plan = plan(&two, wanted).expect("it holds together");
    assert_eq!(wrong(&plan.ring), None);
    // One node of 21 holds a third of all replicas.
    let zone = "new".to_owned();
    assert_eq!(plan.warnings, [Warning::Crowded { zone, percent: 700 }]);
}

#[test]
fn a_hundred_nodes_are_planned() {
    let ring = form(7, 1024, 3, equal(100, 1)).expect("it holds together");
    let plan = plan(&ring, equal(101, 1)).expect("it holds together");
    assert_eq!(wrong_change(&ring, &plan).or(wrong(&plan.ring)), None);
}

#[test]
fn who_left_does_not_come_back_and_a_plan_is_for_one_ring() {
    let ring = form(7, 64, 3, equal(5, 1)).expect("it holds together");
    let smaller = plan(&ring, equal(4, 1)).expect("it holds together");
    let other = plan(&ring, equal(6, 1)).expect("it holds together");
    let next = smaller.after(&ring).expect("it was made for this ring");
    assert!(plan(&next, equal(5, 1)).is_err());
    assert_eq!(other.after(&next), None);
}

/// A check that never failed proves nothing.
#[test]
fn planted_bugs_are_found() {
    for bug in [Planted::RepeatedOwner, Planted::RepeatedReplica] {
        enable(bug);
        let found = (0..20).any(|seed| history(seed).is_some());
        disable_all();
        assert!(found, "nobody sees {}", bug.name());
    }
    enable(Planted::StaleClaim);
    let ring = form(7, 64, 3, equal(5, 1)).expect("it holds together");
    let (first, second) = (plan(&ring, equal(6, 1)), plan(&ring, equal(7, 1)));
    let next = first
        .expect("it holds together")
        .after(&ring)
        .expect("it was made for this ring");
    let stale = second.expect("it holds together").after(&next);
    disable_all();
    assert!(
        stale.is_some_and(|stale| stale.epoch() == next.epoch()),
        "two rings of one epoch"
    );
}
