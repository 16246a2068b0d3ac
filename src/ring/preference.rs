//! The preference list of each virtual node, worked out once a ring: a request then reads a few numbers of a table.

use super::owners::{MemberIndex, RingValue};
use super::position::VirtualNode;
use crate::base::limits;
use crate::base::planted::planted;
use std::collections::BTreeSet;

/// Lists of one length, one behind the other.
#[derive(Clone, Debug)]
pub struct Preferences {
    lists: Box<[MemberIndex]>,
    /// Nodes of each list: all that own anything, or `limits::REPLICAS_MAX`.
    length: usize,
}

impl Preferences {
    /// The value was checked.
    pub fn of(value: &RingValue) -> Preferences {
        let count = value.owners.len();
        let zones = zones(value);
        let mut walk = walk_from_the_start(value);
        let length = walk.len().min(usize::from(limits::REPLICAS_MAX));
        let mut lists = vec![MemberIndex(0); count * length].into_boxed_slice();
        // From the last virtual node to the first: each stands in front of the walk that begins behind it.
        for index in (0..count).rev() {
            let owner = value.owners[index];
            let place = walk.iter().position(|&member| member == owner);
            let place = place.expect("the walk knows every owner");
            walk[..=place].rotate_right(1);
            let list = &mut lists[index * length..(index + 1) * length];
            choose(&walk, &zones, list);
            if planted!(RepeatedReplica) {
                (0..length).for_each(|step| list[step] = value.owners[(index + step) % count]);
            }
        }
        if planted!(PreferenceOffByOne) {
            lists.rotate_left(length);
        }
        Preferences { lists, length }
    }

    pub fn list(&self, virtual_node: VirtualNode) -> &[MemberIndex] {
        let start = virtual_node.0 as usize * self.length;
        &self.lists[start..start + self.length]
    }
}

/// The number of each member's zone.
fn zones(value: &RingValue) -> Vec<usize> {
    let names: BTreeSet<&str> = value
        .members
        .iter()
        .map(|member| member.zone.as_str())
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    let number = |name: &str| names.binary_search(&name).expect("it was gathered");
    value
        .members
        .iter()
        .map(|member| number(&member.zone))
        .collect()
}

/// All that own anything, in the order in which a walk from the first virtual node meets them.
fn walk_from_the_start(value: &RingValue) -> Vec<MemberIndex> {
    let mut met = vec![false; value.members.len()];
    let new = |owner: &&MemberIndex| !std::mem::replace(&mut met[usize::from(owner.0)], true);
    value.owners.iter().filter(new).copied().collect()
}

/// Rounds over the walk: each takes one node of each zone that has one left.
fn choose(walk: &[MemberIndex], zones: &[usize], list: &mut [MemberIndex]) {
    // A zone's round is how often it is in the list, which is at most eight long.
    let zone = |member: MemberIndex| zones[usize::from(member.0)];
    let mut chosen = 0;
    while chosen < list.len() {
        let round_start = chosen;
        for &member in walk {
            let (before, this_round) = list[..chosen].split_at(round_start);
            let taken = before.contains(&member);
            let zone_taken = this_round.iter().any(|&other| zone(other) == zone(member));
            if !taken && !zone_taken {
                list[chosen] = member;
                chosen += 1;
                if chosen == list.len() {
                    break;
                }
            }
        }
        assert!(chosen > round_start, "as many nodes walk as are chosen");
    }
}
