//! The ring of an epoch, as nodes send it and keep it.

use crate::base::limits::REPLICAS_MAX;
use crate::ring::codec::{decode, encode};
use crate::ring::member::{Member, NodeId};
use crate::ring::owners::{MemberIndex, RingEpoch, RingValue};
use crate::ring::position::VirtualNode;

pub fn run(data: &[u8]) {
    let ring = match decode(data) {
        Ok(ring) => ring,
        Err(refused) => return assert!(!refused.to_string().is_empty()),
    };
    let mut again = Vec::new();
    encode(ring.value(), &mut again);
    assert_eq!(again, data, "another form of a ring");
    // However it is laid out, every list is of different nodes and begins with the owner.
    let first = [0, ring.virtual_nodes() / 2, ring.virtual_nodes() - 1];
    for virtual_node in first.map(VirtualNode) {
        let list = ring.preference_list(virtual_node, REPLICAS_MAX);
        assert_eq!(list.first(), Some(&ring.owner(virtual_node)));
        let mut all: Vec<MemberIndex> = ring.fallbacks(virtual_node, REPLICAS_MAX).collect();
        all.extend(list);
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "a node stands in for itself");
        all.iter()
            .for_each(|&index| assert!(!ring.is_banned(ring.member(index).id)));
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let member = |id: u128| Member {
        id: NodeId(id),
        address: format!("10.0.0.{id}:7700").parse().expect("an address"),
        weight: 100,
        zone: format!("z{}", id % 3),
        shards: 2,
    };
    let value = |members: u128, owners: u16| RingValue {
        cluster: 1,
        epoch: RingEpoch(1),
        replicas: 3,
        members: (0..members).map(member).collect(),
        filling: Vec::new(),
        banned: (0..members / 4).map(|id| NodeId(1000 + id)).collect(),
        owners: (0..owners)
            .map(|place| MemberIndex(place % members as u16))
            .collect(),
    };
    let mut last = value(2, 4);
    last.members[1].address = "[::1]:80".parse().expect("an address");
    let values = [value(1, 1), value(3, 8), value(9, 64), last];
    let bytes = |value: &RingValue| {
        let mut bytes = Vec::new();
        encode(value, &mut bytes);
        bytes
    };
    values.iter().map(bytes).collect()
}
