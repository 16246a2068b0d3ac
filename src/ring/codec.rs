//! Bytes of a ring: what nodes send each other, keep, and take the digest of.
//!
//! Encoding, final; numbers little-endian, varint as in `base::varint`:
//!
//! ```text
//! format u8 | cluster u128 | epoch varint | replicas u8 |
//! members varint | that many { id u128 | address | weight varint | shards varint | zone length u8 | zone } |
//! banned varint | that many u128 |
//! in format 2 only: filling varint, at least 1 | that many u128 |
//! log2 of the virtual nodes u8 | the owner of each: a u8 if there are at most 256 members, else a u16
//!
//! address: 4 u8 | 4 bytes | port u16    or    6 u8 | 16 bytes | port u16, the bytes as in an IP header
//! ```
//!
//! An owner is a place among the members, which ascend by id, as the banned do. One ring has one encoding: a ring in
//! which no member fills is of format 1. What comes later, such as buckets, is another format number. Golden vectors:
//! `schema/vectors/ring.json`.

use super::member::{Member, NodeId};
use super::owners::{MemberIndex, Ring, RingEpoch, RingValue, Unsound};
use crate::base::{limits, varint};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const RING_FORMAT: u8 = 2;
const FORMAT_NONE_FILLS: u8 = 1;
/// Members whose places fit one byte.
const NARROW_MEMBERS_MAX: usize = 256;
/// Bytes of the shortest member: an IPv4 address, no zone.
const MEMBER_BYTES_MIN: usize = 16 + 7 + 1 + 1 + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("these bytes are no ring")]
    Malformed,
    #[error("a ring of format {0}, and this program knows {RING_FORMAT}: start the newer version")]
    Newer(u8),
    #[error(transparent)]
    Unsound(#[from] Unsound),
}

/// Appends the encoding of a value that `Ring::new` takes.
pub fn encode(value: &RingValue, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(match value.filling.is_empty() {
        true => FORMAT_NONE_FILLS,
        false => RING_FORMAT,
    });
    out.extend_from_slice(&value.cluster.to_le_bytes());
    varint::encode(value.epoch.0, out);
    out.push(value.replicas);
    varint::encode(value.members.len() as u64, out);
    for member in &value.members {
        out.extend_from_slice(&member.id.0.to_le_bytes());
        encode_address(member.address, out);
        varint::encode(u64::from(member.weight), out);
        varint::encode(u64::from(member.shards), out);
        assert!(member.zone.len() <= limits::ZONE_BYTES_MAX);
        out.push(member.zone.len() as u8);
        out.extend_from_slice(member.zone.as_bytes());
    }
    varint::encode(value.banned.len() as u64, out);
    for id in &value.banned {
        out.extend_from_slice(&id.0.to_le_bytes());
    }
    if !value.filling.is_empty() {
        varint::encode(value.filling.len() as u64, out);
        for id in &value.filling {
            out.extend_from_slice(&id.0.to_le_bytes());
        }
    }
    assert!(value.owners.len().is_power_of_two());
    out.push(value.owners.len().trailing_zeros() as u8);
    if value.members.len() <= NARROW_MEMBERS_MAX {
        out.extend(value.owners.iter().map(|owner| owner.0 as u8));
    } else {
        out.extend(value.owners.iter().flat_map(|owner| owner.0.to_le_bytes()));
    }
    assert!(out.len() - start <= limits::RING_BYTES_MAX);
}

/// The ring that `bytes` are, all of them.
pub fn decode(bytes: &[u8]) -> Result<Ring, Refused> {
    let (&format, _) = bytes.split_first().ok_or(Refused::Malformed)?;
    if format > RING_FORMAT {
        return Err(Refused::Newer(format));
    }
    let value = decode_value(bytes).ok_or(Refused::Malformed)?;
    Ok(Ring::new(value)?)
}

fn decode_value(bytes: &[u8]) -> Option<RingValue> {
    if bytes.len() > limits::RING_BYTES_MAX {
        return None;
    }
    let rest = &mut &*bytes;
    let [format] = take(rest)?;
    if ![FORMAT_NONE_FILLS, RING_FORMAT].contains(&format) {
        return None;
    }
    let cluster = u128::from_le_bytes(take(rest)?);
    let epoch = RingEpoch(varint::decode(rest)?);
    let [replicas] = take(rest)?;
    let count = varint::decode_u32(rest)? as usize;
    // Bounds what is allocated by what has come.
    if count > limits::MEMBERS_MAX || count > rest.len() / MEMBER_BYTES_MIN {
        return None;
    }
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push(decode_member(rest)?);
    }
    let count = varint::decode_u32(rest)? as usize;
    if count > limits::BANNED_MAX || count > rest.len() / size_of::<u128>() {
        return None;
    }
    let mut banned = Vec::with_capacity(count);
    for _ in 0..count {
        banned.push(NodeId(u128::from_le_bytes(take(rest)?)));
    }
    let mut filling = Vec::new();
    if format == RING_FORMAT {
        let count = varint::decode_u32(rest)? as usize;
        if count == 0 || count > limits::MEMBERS_MAX || count > rest.len() / size_of::<u128>() {
            return None;
        }
        for _ in 0..count {
            filling.push(NodeId(u128::from_le_bytes(take(rest)?)));
        }
    }
    let [log] = take(rest)?;
    if u32::from(log) > limits::VIRTUAL_NODES_MAX.trailing_zeros() {
        return None;
    }
    let owners: Vec<MemberIndex> = if members.len() <= NARROW_MEMBERS_MAX {
        rest.iter()
            .map(|&place| MemberIndex(u16::from(place)))
            .collect()
    } else {
        let (pairs, []) = rest.as_chunks() else {
            return None;
        };
        pairs
            .iter()
            .map(|&place| MemberIndex(u16::from_le_bytes(place)))
            .collect()
    };
    (owners.len() == 1 << log).then_some(RingValue {
        cluster,
        epoch,
        replicas,
        members,
        banned,
        filling,
        owners,
    })
}

fn decode_member(rest: &mut &[u8]) -> Option<Member> {
    let id = NodeId(u128::from_le_bytes(take(rest)?));
    let address = decode_address(rest)?;
    let weight = varint::decode_u32(rest)?.try_into().ok()?;
    let shards = varint::decode_u32(rest)?.try_into().ok()?;
    let [length] = take(rest)?;
    let (zone, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    let zone = str::from_utf8(zone).ok()?.to_owned();
    Some(Member {
        id,
        address,
        weight,
        zone,
        shards,
    })
}

fn encode_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_le_bytes());
}

fn decode_address(rest: &mut &[u8]) -> Option<SocketAddr> {
    let ip: IpAddr = match take(rest)? {
        [4] => Ipv4Addr::from(take::<4>(rest)?).into(),
        [6] => Ipv6Addr::from(take::<16>(rest)?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_le_bytes(take(rest)?)))
}

fn take<const BYTES: usize>(rest: &mut &[u8]) -> Option<[u8; BYTES]> {
    let (&taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(taken)
}
