//! Preference lists and fallbacks against their twin, which walks.

use super::super::owners::{MemberIndex, Ring};
use super::super::position::VirtualNode;
use crate::base::limits;
use crate::base::planted::{Planted, disable_all, enable};
use crate::base::rng::Rng;

/// Replicas, then fallbacks: the rule in as many words.
fn twin(ring: &Ring, start: VirtualNode, n: u8) -> (Vec<MemberIndex>, Vec<MemberIndex>) {
    let owners = &ring.value().owners;
    let mut walk = Vec::new();
    for step in 0..owners.len() {
        let owner = owners[(start.0 as usize + step) % owners.len()];
        if !walk.contains(&owner) {
            walk.push(owner);
        }
    }
    let zone = |index: &MemberIndex| ring.member(*index).zone.clone();
    let mut replicas: Vec<MemberIndex> = Vec::new();
    while replicas.len() < usize::from(n) && !walk.is_empty() {
        let mut used = Vec::new();
        for member in walk.clone() {
            if !used.contains(&zone(&member)) && replicas.len() < usize::from(n) {
                used.push(zone(&member));
                replicas.push(member);
                walk.retain(|&other| other != member);
            }
        }
    }
    (replicas, walk)
}

/// What is wrong with one of the lists of a ring.
fn wrong(ring: &Ring) -> Option<String> {
    for virtual_node in (0..ring.virtual_nodes()).map(VirtualNode) {
        for n in 1..=limits::REPLICAS_MAX {
            let list = ring.preference_list(virtual_node, n).to_vec();
            let fallbacks: Vec<MemberIndex> = ring.fallbacks(virtual_node, n).collect();
            let expected = twin(ring, virtual_node, n);
            if (&list, &fallbacks) != (&expected.0, &expected.1) {
                return Some(format!(
                    "{virtual_node:?}, {n}: {list:?} {fallbacks:?} not {expected:?}"
                ));
            }
        }
    }
    None
}

#[test]
fn lists_and_fallbacks_are_those_of_a_walk() {
    let mut rng = Rng::new(1);
    for _ in 0..300 {
        let ring = super::ring(&mut rng);
        assert_eq!(wrong(&ring), None, "{:?}", ring.value());
    }
}

#[test]
fn a_small_ring_by_hand() {
    let mut value = super::ring(&mut Rng::new(3)).value().clone();
    let zones = ["a", "a", "b", "a"];
    value.members = (0..4)
        .map(|id| super::member(id, zones[id as usize]))
        .collect();
    value.owners = [0, 1, 2, 3, 0, 1, 3, 2].map(MemberIndex).to_vec();
    let ring = Ring::new(value).expect("it holds together");
    let list = |start, n| {
        ring.preference_list(VirtualNode(start), n)
            .iter()
            .map(|index| index.0)
            .collect::<Vec<_>>()
    };
    let fallbacks = |start, n| {
        ring.fallbacks(VirtualNode(start), n)
            .map(|index| index.0)
            .collect::<Vec<_>>()
    };
    // 1 is passed over for 2, of another zone, and is the first to stand in.
    assert_eq!((list(0, 2), fallbacks(0, 2)), (vec![0, 2], vec![1, 3]));
    assert_eq!((list(0, 3), fallbacks(0, 3)), (vec![0, 2, 1], vec![3]));
    // The walk goes on at the first virtual node.
    assert_eq!((list(6, 2), fallbacks(6, 2)), (vec![3, 2], vec![0, 1]));
    assert_eq!((list(7, 8), fallbacks(7, 8)), (vec![2, 0, 1, 3], vec![]));
}

/// A check that never failed proves nothing.
#[test]
fn planted_bugs_are_found() {
    for bug in [Planted::PreferenceOffByOne, Planted::RepeatedReplica] {
        enable(bug);
        let mut rng = Rng::new(1);
        let found = (0..300).any(|_| wrong(&super::ring(&mut rng)).is_some());
        disable_all();
        assert!(found, "nobody sees {}", bug.name());
    }
}
