//! Frames of other nodes, and the objects in them.

use crate::base::units::UnixMillis;
use crate::causal::dot::{Actor, Dot, Incarnation};
use crate::causal::object::{Kind, Object, OperationId, Sibling};
use crate::causal::object_codec::{self, Given};
use crate::causal::version_vector::VersionVector;
use crate::wire::codec::{BadPeer, Builder, decode_peer, encode_peer};
use crate::wire::frame::PEER_IDENTIFIER;
use crate::wire::peer::{self, Peer};

/// The checksum is not put right: what passes it was sent by a node.
pub fn frame(data: &[u8]) {
    let mut whole = data.to_vec();
    if let Some(prefix) = whole.first_chunk_mut() {
        *prefix = (data.len() as u32).wrapping_sub(4).to_le_bytes();
    }
    if let Some(identifier) = whole.get_mut(8..12) {
        identifier.copy_from_slice(PEER_IDENTIFIER.as_bytes());
    }
    match decode_peer(&whole) {
        Ok(message) => {
            let again = encode_peer(&mut Builder::new(), &message).to_vec();
            assert_eq!(decode_peer(&again), Ok(message));
        }
        Err(BadPeer::Frame(_)) => assert!(whole.len() < 12),
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

pub fn frame_seeds() -> Vec<Vec<u8>> {
    let object = &object_seeds()[1];
    let kinds = peer::Kind::ALL.map(|kind| Peer {
        kind,
        id: 7,
        bucket: b"b",
        key: b"key",
        object,
        frame: b"frame",
        message: "why",
        node: 5,
        proof: 6,
        address: "127.0.0.1:7700",
        ..Peer::default()
    });
    let encode = |peer: Peer<'_>| encode_peer(&mut Builder::new(), &peer).to_vec();
    kinds.map(encode).to_vec()
}

pub fn object(data: &[u8]) {
    let Some(read) = object_codec::decode(data) else {
        return;
    };
    let mut again = Vec::new();
    object_codec::encode(&read, |value| *value, &mut again);
    assert_eq!(again, data, "an object has one encoding");
    object_codec::is_intact(b"b", b"key", &read);
}

pub fn object_seeds() -> Vec<Vec<u8>> {
    let sibling = |counter: u64, kind, value: Given<'static>| Sibling {
        dot: Dot {
            actor: Actor {
                incarnation: Incarnation(counter * 1000),
                birth: 3,
            },
            counter,
        },
        operation: OperationId(counter.into()),
        kind,
        written: UnixMillis(1_700_000_000_000),
        expires: UnixMillis(0),
        value_hash: 5,
        value,
    };
    let all = [
        vec![],
        vec![sibling(1, Kind::Value, Some(b"Riga"))],
        vec![
            sibling(1, Kind::Value, None),
            sibling(2, Kind::Tombstone, None),
            sibling(3, Kind::ValueLost, None),
            sibling(4, Kind::Value, Some(b"")),
        ],
    ];
    let encode = |siblings: Vec<Sibling<Given<'static>>>| {
        let mut vector = VersionVector::default();
        siblings.iter().for_each(|s| vector.add(s.dot));
        let mut bytes = Vec::new();
        object_codec::encode(&Object { vector, siblings }, |v| *v, &mut bytes);
        bytes
    };
    all.map(encode).to_vec()
}
