//! Rings at random, and what must hold of each.

mod bytes;
mod claim;
mod preference;

use super::member::{Member, NodeId};
use super::owners::{MemberIndex, Ring, RingEpoch, RingValue};
use crate::base::rng::Rng;

pub fn member(id: u128, zone: &str) -> Member {
    Member {
        id: NodeId(id),
        address: ([127, 0, (id >> 8) as u8, id as u8], 7700).into(),
        weight: 100,
        zone: zone.to_owned(),
        shards: 2,
    }
}

/// Any ring that holds together: nothing about it is even.
pub fn ring(rng: &mut Rng) -> Ring {
    let zones = rng.range(1..6);
    let members: Vec<Member> = (0..rng.range(1..20))
        .map(|id| member(u128::from(id), &format!("zone-{}", rng.below(zones))))
        .collect();
    let count = 1 << rng.below(8);
    let owner = |_| MemberIndex(rng.below(members.len() as u64) as u16);
    let owners = (0..count).map(owner).collect();
    let value = RingValue {
        cluster: 7,
        epoch: RingEpoch(1),
        replicas: 3,
        banned: vec![NodeId(1 << 70)],
        filling: vec![],
        members,
        owners,
    };
    Ring::new(value).expect("it holds together")
}
