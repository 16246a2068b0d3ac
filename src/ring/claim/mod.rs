//! The claim: who should own which virtual node when the members change. Pure; one plan for the same question.
//!
//! 1. Each member owns its weight's part, as far as replicas can follow it (`share`).
//! 2. No node stands twice within N consecutive arcs where that is possible, and no zone, so that preference lists are
//!    what stands there and loads are what is owned.
//! 3. Arcs that need not move stay.
//! 4. The arcs of a node fall to many others when it fails.
//!
//! Owners are first made right in number, taking what fits best where it stands, and then swapped in pairs while that
//! makes the order cheaper (`layout`). Where fewer than N + 1 nodes are or were, each holds (almost) everything and
//! owners may change without any data moving: then the order is made anew.

mod layout;
mod share;

use super::member::{Member, NodeId};
use super::owners::{MemberIndex, Ring, RingEpoch, RingValue, Unsound};
use super::position::VirtualNode;
use crate::base::planted::planted;
use crate::base::rng::Rng;
use layout::{Layout, Rules};
use share::Share;

/// Swaps that are tried for each virtual node.
const TRIES_PER_VIRTUAL_NODE: usize = 64;
/// The same while a node stands twice within N arcs.
const TRIES_IF_REPEATED: usize = 4 * TRIES_PER_VIRTUAL_NODE;
/// Layouts that are begun until one has no node twice within N arcs.
const ATTEMPTS_MAX: u64 = 6;
/// Swaps tried for an arc that stands wrong before another one is looked at.
const TRIES_PER_ARC: usize = 32;
/// Hundredths of the mean load above which a zone's nodes are warned of.
const CROWDED_PERCENT: u64 = 150;

/// A change of the ring, worked out but not agreed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Digest of the ring that it changes. It means nothing for another one.
    pub of: u64,
    pub ring: Ring,
    pub moves: Vec<Move>,
    pub warnings: Vec<Warning>,
}

/// A node becomes a replica of a virtual node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    pub virtual_node: VirtualNode,
    pub to: NodeId,
}

/// What an operator should know before the plan is agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Each node of this zone would hold so many hundredths of what the nodes hold in the mean, since each key has a
    /// replica in each zone: give the zone more nodes.
    Crowded { zone: String, percent: u64 },
    /// Fewer members than replicas are wished for.
    FewMembers { members: usize, replicas: u8 },
}

/// The first ring of a cluster. `virtual_nodes` is a power of two.
pub fn form(
    cluster: u128,
    virtual_nodes: u32,
    replicas: u8,
    members: Vec<Member>,
) -> Result<Ring, Unsound> {
    let owners = vec![MemberIndex(0); virtual_nodes as usize];
    let value = RingValue {
        cluster,
        epoch: RingEpoch(1),
        replicas,
        members,
        banned: Vec::new(),
        filling: Vec::new(),
        owners,
    };
    // Refuses what cannot be laid out.
    let ring = Ring::new(value)?;
    let mut value = ring.value().clone();
    value.owners = owners_for(
        &value,
        &vec![None; virtual_nodes as usize],
        0,
        ring.digest(),
    );
    Ring::new(value)
}

/// The ring with these members (ascending by id) instead. Who is not among them any more is banned.
pub fn plan(current: &Ring, wanted: Vec<Member>) -> Result<Plan, Unsound> {
    let mut value = current.value().clone();
    value.epoch = RingEpoch(value.epoch.0 + 1);
    value.members = wanted;
    let stays = |id: NodeId| {
        value
            .members
            .binary_search_by_key(&id, |member| member.id)
            .ok()
    };
    let left = current.members().iter().map(|member| member.id);
    value.banned.extend(left.filter(|&id| stays(id).is_none()));
    value.banned.sort();
    let old: Vec<Option<u16>> = current
        .members()
        .iter()
        .map(|member| stays(member.id).map(|place| place as u16))
        .collect();
    let before: Vec<Option<u16>> = current
        .value()
        .owners
        .iter()
        .map(|owner| old[usize::from(owner.0)])
        .collect();
    // Refuses what cannot be laid out.
    value.owners.fill(MemberIndex(0));
    let checked = Ring::new(value)?;
    let mut value = checked.value().clone();
    value.owners = owners_for(&value, &before, current.members().len(), checked.digest());
    let ring = Ring::new(value)?;
    Ok(Plan {
        of: current.digest(),
        moves: moves(current, &ring),
        warnings: warnings(&ring),
        ring,
    })
}

impl Plan {
    /// The ring to propose after `current`; `None` if the plan was made for another one.
    pub fn after(self, current: &Ring) -> Option<Ring> {
        let fits = self.of == current.digest() || planted!(StaleClaim);
        fits.then_some(self.ring)
    }
}

/// Who becomes a replica of what: this much data has to be filled.
fn moves(current: &Ring, next: &Ring) -> Vec<Move> {
    let mut moves = Vec::new();
    for virtual_node in (0..next.virtual_nodes()).map(VirtualNode) {
        let ids = |ring: &Ring| -> Vec<NodeId> {
            let list = ring.preference_list(virtual_node, ring.value().replicas);
            list.iter().map(|&index| ring.member(index).id).collect()
        };
        let had = ids(current);
        let gained = ids(next).into_iter().filter(|id| !had.contains(id));
        moves.extend(gained.map(|to| Move { virtual_node, to }));
    }
    moves
}

/// How many virtual nodes each member is a replica of.
pub fn loads(ring: &Ring) -> Vec<u64> {
    let mut loads = vec![0; ring.members().len()];
    for virtual_node in (0..ring.virtual_nodes()).map(VirtualNode) {
        for index in ring.preference_list(virtual_node, ring.value().replicas) {
            loads[usize::from(index.0)] += 1;
        }
    }
    loads
}

/// How many virtual nodes each member would be a replica of in the best of layouts.
pub fn feasible_loads(ring: &Ring) -> Vec<f64> {
    let shares = share::feasible(&shares(ring.members()), ring.value().replicas);
    shares
        .iter()
        .map(|share| share * f64::from(ring.virtual_nodes()))
        .collect()
}

fn warnings(ring: &Ring) -> Vec<Warning> {
    let (members, loads) = (ring.members(), loads(ring));
    let replicas = ring.value().replicas;
    let mut warnings = Vec::new();
    if members.len() < usize::from(replicas) {
        warnings.push(Warning::FewMembers {
            members: members.len(),
            replicas,
        });
    }
    let mut zones: Vec<&str> = members.iter().map(|member| member.zone.as_str()).collect();
    zones.sort();
    zones.dedup();
    let all: u64 = loads.iter().sum();
    for zone in zones {
        let of_zone = || {
            members
                .iter()
                .zip(&loads)
                .filter(|(member, _)| member.zone == zone)
        };
        let (nodes, load) = (
            of_zone().count() as u64,
            of_zone().map(|(_, load)| load).sum::<u64>(),
        );
        let percent = 100 * load * members.len() as u64 / (nodes * all);
        if percent > CROWDED_PERCENT {
            let zone = zone.to_owned();
            warnings.push(Warning::Crowded { zone, percent });
        }
    }
    warnings
}

fn shares(members: &[Member]) -> Vec<Share> {
    let mut names: Vec<&str> = members.iter().map(|member| member.zone.as_str()).collect();
    names.sort();
    names.dedup();
    let zone = |member: &Member| {
        names
            .binary_search(&member.zone.as_str())
            .expect("it was gathered")
    };
    let share = |member: &Member| Share {
        weight: member.weight,
        zone: zone(member),
    };
    members.iter().map(share).collect()
}

/// `before`: the owner of each virtual node until now, if it stays; `old_members`: how many there were.
fn owners_for(
    value: &RingValue,
    before: &[Option<u16>],
    old_members: usize,
    seed: u64,
) -> Vec<MemberIndex> {
    let members = value.members.len();
    let count = before.len();
    let shares = shares(&value.members);
    let zones: Vec<usize> = shares.iter().map(|share| share.zone).collect();
    let anew = old_members.min(members) <= usize::from(value.replicas);
    let nobody = vec![None; count];
    let before = if anew { &nobody[..] } else { before };
    let mut owned = vec![0; members];
    before
        .iter()
        .flatten()
        .for_each(|&owner| owned[usize::from(owner)] += 1);
    let feasible = share::feasible(&shares, value.replicas);
    let rules = Rules {
        zones: &zones,
        replicas: usize::from(value.replicas).min(members),
        before,
        targets: &share::whole(&feasible, count, &owned),
    };
    let attempt = |index: u64| {
        let mut rng = Rng::stream(seed, "claim", index);
        let owners = right_in_number(&rules, owned.clone(), &mut rng);
        let mut layout = Layout::new(&rules, owners);
        if !planted!(RepeatedOwner) {
            improve(&mut layout, &mut rng);
        }
        layout
    };
    let mut best = attempt(0);
    for index in 1..ATTEMPTS_MAX {
        if !best.repeats() || !best.can_do_without_repeats() {
            break;
        }
        let other = attempt(index);
        if other.cost() < best.cost() {
            best = other;
        }
    }
    best.owners.into_iter().map(MemberIndex).collect()
}

/// Gives each arc that nobody owns, and then arcs of those who have too many, to those who have too few: where the
/// taker does not stand near, if there is such a place.
fn right_in_number(rules: &Rules<'_>, mut owned: Vec<usize>, rng: &mut Rng) -> Vec<u16> {
    let count = rules.before.len();
    let mut owners = rules.before.to_vec();
    let too_few = |owned: &[usize], member: u16| {
        owned[usize::from(member)] < rules.targets[usize::from(member)]
    };
    let mut takers: Vec<u16> = (0..owned.len() as u16).collect();
    for at in 0..count {
        if owners[at].is_some() {
            continue;
        }
        rng.shuffle(&mut takers);
        let open = takers.iter().filter(|&&member| too_few(&owned, member));
        let best = open.min_by_key(|&&member| {
            let target = rules.targets[usize::from(member)];
            // Of those that fit, whoever lacks most of its part: nobody is left over at the end.
            let lacking = 1000 * (target - owned[usize::from(member)]) / target;
            (near(rules, &owners, at, member), usize::MAX - lacking)
        });
        let &taker = best.expect("the targets are as many as the arcs, and not all are owned");
        owners[at] = Some(taker);
        owned[usize::from(taker)] += 1;
    }
    let mut arcs: Vec<usize> = (0..count).collect();
    for bound in NEAR_BOUNDS {
        rng.shuffle(&mut arcs);
        for &at in &arcs {
            let owner = owners[at].expect("each arc has an owner by now");
            if owned[usize::from(owner)] <= rules.targets[usize::from(owner)] {
                continue;
            }
            rng.shuffle(&mut takers);
            let mut open = takers.iter().filter(|&&member| too_few(&owned, member));
            if let Some(&taker) = open.find(|&&member| near(rules, &owners, at, member) <= bound) {
                owners[at] = Some(taker);
                owned[usize::from(owner)] -= 1;
                owned[usize::from(taker)] += 1;
            }
        }
    }
    owners.into_iter().flatten().collect()
}

/// First only places where neither node nor zone stands near, then the others.
const NEAR_BOUNDS: [usize; 4] = [0, 1, 2, usize::MAX];
const NODE_NEAR: usize = 1000;

/// How badly a member fits an arc: whether it stands within N of it, and in how many of the nearest places its zone
/// does.
fn near(rules: &Rules<'_>, owners: &[Option<u16>], at: usize, member: u16) -> usize {
    let count = owners.len();
    let zone = |member: u16| rules.zones[usize::from(member)];
    let mut badness = 0;
    for step in 1..rules.replicas {
        for place in [(at + count - step % count) % count, (at + step) % count] {
            let Some(owner) = owners[place] else {
                continue;
            };
            if owner == member {
                badness += NODE_NEAR;
            } else if zone(owner) == zone(member) && step <= rules.zone_distance() {
                badness += 1;
            }
        }
    }
    badness
}

/// Swaps owners while that is cheaper, those of arcs that stand wrong; half of the time with arcs that move anyway.
fn improve(layout: &mut Layout<'_>, rng: &mut Rng) {
    let count = layout.owners.len();
    let mut tries = count * TRIES_PER_VIRTUAL_NODE;
    let mut longest = if layout.can_do_without_repeats() {
        count * TRIES_IF_REPEATED
    } else {
        0
    };
    while tries > 0 {
        let mut wrong: Vec<usize> = (0..count).filter(|&at| layout.is_wrong(at)).collect();
        let loose: Vec<usize> = (0..count).filter(|&at| layout.is_loose(at)).collect();
        if wrong.is_empty() {
            return;
        }
        rng.shuffle(&mut wrong);
        for at in wrong {
            for _ in 0..TRIES_PER_ARC {
                tries = tries.saturating_sub(1);
                longest = longest.saturating_sub(1);
                let other = if rng.one_in(2) && !loose.is_empty() {
                    loose[rng.below(loose.len() as u64) as usize]
                } else {
                    rng.below(count as u64) as usize
                };
                if layout.owners[at] == layout.owners[other] {
                    continue;
                }
                let cost = layout.cost();
                layout.swap(at, other);
                if layout.cost() > cost {
                    layout.swap(at, other);
                } else if layout.cost() < cost {
                    break;
                }
            }
        }
        if tries == 0 && longest > 0 && layout.repeats() {
            tries = count * TRIES_PER_VIRTUAL_NODE;
        }
    }
}
