use super::*;
use crate::base::limits::KEY_BYTES_MAX;
use crate::wire::frame::{BadFrame, PEER_IDENTIFIER, REQUEST_IDENTIFIER};
use crate::wire::peer::{Kind, Peer};
use proptest::collection::vec;
use proptest::prelude::*;

fn store<'a>() -> Peer<'a> {
    Peer {
        kind: Kind::Store,
        id: 0x1122_3344_5566_7788,
        timeout_ms: 900,
        bucket: b"b",
        key: b"key",
        object: b"an object",
        ..Peer::default()
    }
}

#[test]
fn every_field_comes_back() {
    let mut builder = Builder::new();
    for kind in Kind::ALL {
        let all = Peer {
            kind,
            id: 1,
            status: 255,
            timeout_ms: 3,
            bucket: b"bucket",
            key: &[7; KEY_BYTES_MAX],
            object: b"object",
            values: true,
            frame: b"frame",
            message: "message",
            protocol: 4,
            cluster: u128::MAX - 5,
            node: 6,
            ring_epoch: 7,
            ring_digest: 8,
            proof: u128::MAX / 3,
            address: "[::1]:7700",
            shards: 9,
            named: 10,
            ring: b"ring",
            secret: b"secret",
            ballot_round: 11,
            ballot_node: 12,
            under_round: 13,
            under_node: 14,
            position: 15,
            position_last: u64::MAX,
            more: true,
            nonce: u128::MAX - 16,
            answer_nonce: 17,
        };
        let frame = encode_peer(&mut builder, &all).to_vec();
        assert_eq!(decode_peer(&frame), Ok(all));
    }
    let frame = encode_peer(&mut builder, &Peer::default()).to_vec();
    assert_eq!(decode_peer(&frame), Ok(Peer::default()));
}

#[test]
fn what_is_no_message_is_refused_by_name() {
    let mut builder = Builder::new();
    let frame = encode_peer(&mut builder, &store()).to_vec();
    let trailing = [&frame[..], &[0]].concat();
    assert_eq!(
        decode_peer(&trailing),
        Err(BadPeer::Frame(BadFrame::Length))
    );
    let request = encode_request(&mut builder, &Default::default()).to_vec();
    let expected = PEER_IDENTIFIER;
    assert_eq!(
        decode_peer(&request),
        Err(BadPeer::Frame(BadFrame::Identifier { expected }))
    );
    let mut renamed = frame;
    renamed[8..12].copy_from_slice(REQUEST_IDENTIFIER.as_bytes());
    assert!(decode_request(&renamed, RequestLimits::default()).is_err());
}

/// A flipped bit in what a client has at stake is never taken for something else.
#[test]
fn a_flipped_bit_of_a_key_an_object_or_an_answer_is_met() {
    let mut builder = Builder::new();
    let whole = store();
    let frame = encode_peer(&mut builder, &whole).to_vec();
    for at in 0..frame.len() {
        for bit in 0..8 {
            let mut spoilt = frame.clone();
            spoilt[at] ^= 1 << bit;
            if let Ok(read) = decode_peer(&spoilt) {
                let stake = |peer: &Peer<'_>| {
                    let bytes = [peer.bucket, peer.key, peer.object, peer.frame].concat();
                    (peer.kind, peer.id, peer.status, peer.values, bytes)
                };
                assert_eq!(stake(&read), stake(&whole), "byte {at}, bit {bit}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode_peer(&bytes);
        let mut framed = ((bytes.len() + 8) as u32).to_le_bytes().to_vec();
        framed.extend_from_slice(&[8, 0, 0, 0]);
        framed.extend_from_slice(PEER_IDENTIFIER.as_bytes());
        framed.extend_from_slice(&bytes);
        let _ = decode_peer(&framed);
    }
}
