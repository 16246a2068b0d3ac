//! The ring of one epoch: who its members are, and which of them owns each virtual node.

use super::codec;
use super::member::{Member, NodeId};
use super::position::{Position, VirtualNode};
use super::preference::Preferences;
use crate::base::{checksum, limits};

/// Counts the rings of a cluster: the first has 1. 0 is the ring of nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingEpoch(pub u64);

/// A place in the members of one ring; means nothing in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIndex(pub u16);

/// What a cluster agrees on. Any of it can be said; `Ring::new` takes what holds together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingValue {
    pub cluster: u128,
    pub epoch: RingEpoch,
    /// N of buckets that name none, and what the layout is made for.
    pub replicas: u8,
    /// Ascending by id, each address once.
    pub members: Vec<Member>,
    /// Ascending. Nodes that were taken out, and may never come back with what they hold.
    pub banned: Vec<NodeId>,
    /// Ascending. Members that do not hold all of their keys yet: they take writes, and their votes do not make up for
    /// those of the others; they are not asked for reads. Only while the others hold every key already, that is among
    /// no more members than a key has replicas.
    pub filling: Vec<NodeId>,
    /// The owner of each virtual node: their number is Q, a power of two.
    pub owners: Vec<MemberIndex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    #[error("the ring has no epoch: the first is 1")]
    Epoch,
    #[error("a ring has 1 to {} replicas of a key", limits::REPLICAS_MAX)]
    Replicas,
    #[error(
        "a ring has 1 to {} members, ascending by id, each address once",
        limits::MEMBERS_MAX
    )]
    Members,
    #[error("a member's weight, zone, address or number of shards is out of bounds")]
    Member,
    #[error("the banned nodes are too many, not ascending, or members")]
    Banned,
    #[error("the nodes that fill are not ascending members beside full ones, or are too many")]
    Filling,
    #[error("the virtual nodes are no power of two, too many, or belong to nobody")]
    Owners,
}

/// A ring that holds together, ready to be asked. Immutable; a change is a new one.
#[derive(Clone, Debug)]
pub struct Ring {
    value: RingValue,
    digest: u64,
    preferences: Preferences,
}

/// Two rings are one if their values are: the rest follows from it.
impl PartialEq for Ring {
    fn eq(&self, other: &Ring) -> bool {
        self.value == other.value
    }
}

impl Eq for Ring {}

impl Ring {
    pub fn new(value: RingValue) -> Result<Ring, Unsound> {
        check(&value)?;
        let preferences = Preferences::of(&value);
        let mut bytes = Vec::new();
        codec::encode(&value, &mut bytes);
        Ok(Ring {
            digest: checksum::xxh3_64(&bytes),
            preferences,
            value,
        })
    }

    pub fn value(&self) -> &RingValue {
        &self.value
    }

    pub fn epoch(&self) -> RingEpoch {
        self.value.epoch
    }

    /// xxh3-64 of the bytes: two rings of one epoch that differ in it must never be.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn members(&self) -> &[Member] {
        &self.value.members
    }

    pub fn member(&self, index: MemberIndex) -> &Member {
        &self.value.members[usize::from(index.0)]
    }

    pub fn index_of(&self, node: NodeId) -> Option<MemberIndex> {
        let found = self
            .value
            .members
            .binary_search_by_key(&node, |member| member.id);
        found.ok().map(|index| MemberIndex(index as u16))
    }

    pub fn is_banned(&self, node: NodeId) -> bool {
        self.value.banned.binary_search(&node).is_ok()
    }

    /// Whether a member does not hold all of its keys yet.
    pub fn is_filling(&self, node: NodeId) -> bool {
        self.value.filling.binary_search(&node).is_ok()
    }

    /// The members that hold all of their keys: these agree on the next ring.
    pub fn full_members(&self) -> impl Iterator<Item = &Member> {
        self.members().iter().filter(|m| !self.is_filling(m.id))
    }

    /// Q.
    pub fn virtual_nodes(&self) -> u32 {
        self.value.owners.len() as u32
    }

    pub fn virtual_node(&self, position: Position) -> VirtualNode {
        position.virtual_node(self.virtual_nodes())
    }

    pub fn owner(&self, virtual_node: VirtualNode) -> MemberIndex {
        self.value.owners[virtual_node.0 as usize]
    }

    /// The `n` nodes that should hold the keys of a virtual node, its owner first; fewer if fewer own anything. The
    /// walk goes on clockwise over nodes that are not in the list, one of each unused zone first. A shorter list is
    /// the beginning of a longer one.
    pub fn preference_list(&self, virtual_node: VirtualNode, n: u8) -> &[MemberIndex] {
        assert!((1..=limits::REPLICAS_MAX).contains(&n));
        let list = self.preferences.list(virtual_node);
        &list[..list.len().min(usize::from(n))]
    }

    /// Who stands in when some of the preference list of `n` do not answer, first choice first: all other nodes that
    /// own anything, in the order of the walk, so that those come first which were passed over for their zone.
    pub fn fallbacks(&self, virtual_node: VirtualNode, n: u8) -> Fallbacks<'_> {
        let mut seen = [0u64; SEEN_WORDS];
        let list = self.preference_list(virtual_node, n);
        list.iter().for_each(|&index| {
            mark(&mut seen, index);
        });
        Fallbacks {
            owners: &self.value.owners,
            at: virtual_node.0 as usize,
            left: self.value.owners.len(),
            seen,
        }
    }
}

const SEEN_WORDS: usize = limits::MEMBERS_MAX.div_ceil(64);

/// Whether it was not marked before.
fn mark(seen: &mut [u64; SEEN_WORDS], index: MemberIndex) -> bool {
    let (word, bit) = (usize::from(index.0) / 64, 1 << (index.0 % 64));
    let new = seen[word] & bit == 0;
    seen[word] |= bit;
    new
}

/// Walks on where it is asked to, and allocates nothing.
pub struct Fallbacks<'a> {
    owners: &'a [MemberIndex],
    at: usize,
    left: usize,
    seen: [u64; SEEN_WORDS],
}

impl Iterator for Fallbacks<'_> {
    type Item = MemberIndex;

    fn next(&mut self) -> Option<MemberIndex> {
        while self.left > 0 {
            let owner = self.owners[self.at];
            self.at = (self.at + 1) & (self.owners.len() - 1);
            self.left -= 1;
            if mark(&mut self.seen, owner) {
                return Some(owner);
            }
        }
        None
    }
}

fn check(value: &RingValue) -> Result<(), Unsound> {
    let members = value.members.len();
    if value.epoch.0 == 0 {
        return Err(Unsound::Epoch);
    }
    if !(1..=limits::REPLICAS_MAX).contains(&value.replicas) {
        return Err(Unsound::Replicas);
    }
    let counted = (1..=limits::MEMBERS_MAX).contains(&members);
    if !counted || !value.members.is_sorted_by(|a, b| a.id < b.id) {
        return Err(Unsound::Members);
    }
    let mut addresses: Vec<_> = value.members.iter().map(|member| member.address).collect();
    addresses.sort();
    if addresses.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Unsound::Members);
    }
    if !value.members.iter().all(Member::is_sound) {
        return Err(Unsound::Member);
    }
    let is_member = |id: &NodeId| {
        value
            .members
            .binary_search_by_key(id, |member| member.id)
            .is_ok()
    };
    let few = value.banned.len() <= limits::BANNED_MAX;
    if !few || !value.banned.is_sorted_by(|a, b| a < b) || value.banned.iter().any(is_member) {
        return Err(Unsound::Banned);
    }
    let filling = &value.filling;
    let ascending = filling.is_sorted_by(|a, b| a < b) && filling.iter().all(is_member);
    let few =
        filling.is_empty() || filling.len() < members && members <= usize::from(value.replicas);
    if !ascending || !few {
        return Err(Unsound::Filling);
    }
    let owners = &value.owners;
    let counted =
        owners.len().is_power_of_two() && owners.len() <= limits::VIRTUAL_NODES_MAX as usize;
    if !counted || owners.iter().any(|owner| usize::from(owner.0) >= members) {
        return Err(Unsound::Owners);
    }
    Ok(())
}
