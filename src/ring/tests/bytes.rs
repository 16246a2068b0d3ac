//! The encoding of a ring, and what is refused.

use super::super::codec::{Refused, decode, encode};
use super::super::member::{Member, NodeId};
use super::super::owners::{MemberIndex, Ring, RingEpoch, RingValue, Unsound};
use crate::base::golden::{self, hex, unhex};
use crate::base::limits;
use crate::base::rng::Rng;
use proptest::prelude::*;

fn encoded(value: &RingValue) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    bytes
}

#[derive(serde::Deserialize)]
struct Golden {
    bytes_hex: String,
    epoch: u64,
    digest: String,
    members: Vec<String>,
    /// Of virtual node 1.
    preference_list: Vec<u16>,
}

/// The values of the golden file, in its order.
fn golden_values() -> [RingValue; 4] {
    let alone = RingValue {
        cluster: 1,
        epoch: RingEpoch(1),
        replicas: 3,
        members: vec![super::member(5, "")],
        banned: vec![],
        filling: vec![],
        owners: vec![MemberIndex(0); 4],
    };
    let [mut first, mut second, mut third] = [5, 6, 1 << 100].map(|id| super::member(id, "rack-1"));
    (first.weight, second.shards, third.zone) = (300, 129, "rack_2.b".to_owned());
    second.address = "[2001:db8::7]:65000".parse().expect("an address");
    let three = RingValue {
        cluster: u128::MAX / 3,
        epoch: RingEpoch(300),
        replicas: 2,
        members: vec![first, second, third],
        banned: vec![NodeId(2), NodeId(u128::MAX)],
        filling: vec![],
        owners: [0, 1, 0, 2, 0, 1, 2, 0].map(MemberIndex).to_vec(),
    };
    let many = RingValue {
        epoch: RingEpoch(u64::MAX),
        members: (0..257).map(|id| super::member(id, "")).collect(),
        owners: [0, 256, 1, 255].map(MemberIndex).to_vec(),
        ..alone.clone()
    };
    let filling = RingValue {
        replicas: 3,
        filling: vec![NodeId(1 << 100)],
        ..three.clone()
    };
    [alone, three, many, filling]
}

#[test]
fn golden() {
    let text = include_str!("../../../schema/vectors/ring.json");
    let goldens = golden::read::<Golden>(text);
    for (value, golden) in golden_values().iter().zip(&goldens) {
        let bytes = encoded(value);
        assert_eq!(hex(&bytes), golden.bytes_hex);
        let ring = decode(&unhex(&golden.bytes_hex)).expect("a golden ring");
        assert_eq!((ring.value(), ring.epoch().0), (value, golden.epoch));
        assert_eq!(format!("{:016x}", ring.digest()), golden.digest);
        let member = |member: &Member| format!("{} {}", member.id, member.address);
        let members: Vec<String> = ring.members().iter().map(member).take(3).collect();
        assert_eq!(members, golden.members);
        let list = ring.preference_list(super::super::position::VirtualNode(1), 3);
        assert_eq!(
            list.iter().map(|index| index.0).collect::<Vec<_>>(),
            golden.preference_list
        );
    }
    assert_eq!(goldens.len(), golden_values().len());
}

#[test]
fn a_ring_comes_back() {
    let mut rng = Rng::new(5);
    for _ in 0..200 {
        let ring = super::ring(&mut rng);
        let mut bytes = encoded(ring.value());
        let again = decode(&bytes).expect("what we write is read");
        assert_eq!(
            (again.value(), again.digest()),
            (ring.value(), ring.digest())
        );
        let cut = rng.below(bytes.len() as u64) as usize;
        assert_eq!(decode(&bytes[..cut]), Err(Refused::Malformed));
        bytes.push(0);
        assert!(decode(&bytes).is_err(), "something stands behind it");
    }
}

#[test]
fn a_newer_format_is_refused_as_such() {
    assert_eq!(decode(&[3, 0]), Err(Refused::Newer(3)));
    assert_eq!(decode(&[0, 0]), Err(Refused::Malformed));
}

#[test]
fn the_longest_ring_fits_its_limit() {
    let members = limits::MEMBERS_MAX as u128;
    let longest = |id: u128| Member {
        address: std::net::SocketAddr::from((std::net::Ipv6Addr::from(1 + id), 1000)),
        weight: limits::WEIGHT_MAX,
        zone: "z".repeat(limits::ZONE_BYTES_MAX),
        shards: limits::SHARDS_MAX as u16,
        id: NodeId(id),
    };
    let value = RingValue {
        epoch: RingEpoch(u64::MAX),
        members: (0..members).map(longest).collect(),
        filling: vec![],
        banned: (0..limits::BANNED_MAX as u128)
            .map(|id| NodeId(members + id))
            .collect(),
        owners: vec![MemberIndex(members as u16 - 1); limits::VIRTUAL_NODES_MAX as usize],
        ..golden_values()[0].clone()
    };
    let bytes = encoded(&value);
    assert_eq!(decode(&bytes).expect("it is read").value(), &value);
}

#[test]
fn what_does_not_hold_together_is_refused() {
    let whole = &golden_values()[1];
    let refused = |spoil: &dyn Fn(&mut RingValue)| {
        let mut value = whole.clone();
        spoil(&mut value);
        Ring::new(value).expect_err("it was spoilt")
    };
    assert!(Ring::new(whole.clone()).is_ok());
    assert_eq!(refused(&|value| value.epoch.0 = 0), Unsound::Epoch);
    assert_eq!(refused(&|value| value.replicas = 0), Unsound::Replicas);
    assert_eq!(refused(&|value| value.replicas = 9), Unsound::Replicas);
    assert_eq!(refused(&|value| value.members.clear()), Unsound::Members);
    assert_eq!(refused(&|value| value.members.swap(0, 1)), Unsound::Members);
    assert_eq!(
        refused(&|value| value.members[0].address = value.members[2].address),
        Unsound::Members
    );
    assert_eq!(
        refused(&|value| value.members[0].weight = 0),
        Unsound::Member
    );
    assert_eq!(
        refused(&|value| value.members[0].shards = 0),
        Unsound::Member
    );
    assert_eq!(
        refused(&|value| value.members[0].zone = "a b".to_owned()),
        Unsound::Member
    );
    assert_eq!(
        refused(&|value| value.members[0].address.set_port(65534)),
        Unsound::Member
    );
    assert_eq!(
        refused(&|value| value.banned = vec![value.members[0].id]),
        Unsound::Banned
    );
    assert_eq!(refused(&|value| value.banned.swap(0, 1)), Unsound::Banned);
    assert_eq!(refused(&|value| value.owners.truncate(7)), Unsound::Owners);
    assert_eq!(refused(&|value| value.owners.clear()), Unsound::Owners);
    assert_eq!(
        refused(&|value| value.owners[3] = MemberIndex(3)),
        Unsound::Owners
    );
}

proptest! {
    #[test]
    fn what_is_read_is_what_would_be_written(
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut bytes = encoded(&golden_values()[1]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(ring) = decode(&bytes) {
            prop_assert_eq!(encoded(ring.value()), bytes);
        }
    }
}
