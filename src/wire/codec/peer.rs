//! Messages between nodes.

use super::{Builder, bytes, verifier_options};
use crate::base::limits::{
    ADDRESS_BYTES_MAX, BUCKET_BYTES_MAX, KEY_BYTES_MAX, PEER_FRAME_BYTES_MAX, RING_BYTES_MAX,
};
use crate::wire::frame::{BadFrame, PEER_IDENTIFIER, check_whole};
use crate::wire::generated::peer as fb;
use crate::wire::peer::{Kind, Peer};

/// Why bytes are no message of a node; the link that brought them is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPeer {
    #[error("{0}")]
    Frame(BadFrame),
    #[error("the frame holds no message between nodes: it is damaged, or of another schema")]
    Malformed,
    #[error("unknown kind {0} of a message between nodes: that node is of a newer version")]
    Kind(u8),
    #[error("a message between nodes fails its checksum")]
    Check,
}

/// One whole frame, which lives until the builder is used again.
pub fn encode_peer<'b>(builder: &'b mut Builder, peer: &Peer<'_>) -> &'b [u8] {
    assert!(peer.bucket.len() <= BUCKET_BYTES_MAX && peer.key.len() <= KEY_BYTES_MAX);
    let fbb = builder.reset();
    let mut vector = |bytes: &[u8]| (!bytes.is_empty()).then(|| fbb.create_vector(bytes));
    let frame = vector(peer.frame);
    let object = vector(peer.object);
    let ring = vector(peer.ring);
    let secret = vector(peer.secret);
    let key = vector(peer.key);
    let bucket = vector(peer.bucket);
    let mut text = |text: &str| (!text.is_empty()).then(|| fbb.create_string(text));
    let message = text(peer.message);
    let address = text(peer.address);
    let id =
        |number: u128| (number != 0).then(|| fb::Id128::new(number as u64, (number >> 64) as u64));
    let (cluster, node, proof) = (id(peer.cluster), id(peer.node), id(peer.proof));
    let (ballot_node, under_node) = (id(peer.ballot_node), id(peer.under_node));
    let (nonce, answer_nonce) = (id(peer.nonce), id(peer.answer_nonce));
    let arguments = fb::PeerArgs {
        kind: fb::Kind(peer.kind as u8),
        id: peer.id,
        status: peer.status,
        timeout_ms: peer.timeout_ms,
        bucket,
        key,
        object,
        values: peer.values,
        frame,
        check: peer.check(),
        message,
        protocol: peer.protocol,
        cluster: cluster.as_ref(),
        node: node.as_ref(),
        ring_epoch: peer.ring_epoch,
        ring_digest: peer.ring_digest,
        proof: proof.as_ref(),
        address,
        shards: peer.shards,
        named: peer.named,
        ring,
        secret,
        ballot_round: peer.ballot_round,
        ballot_node: ballot_node.as_ref(),
        under_round: peer.under_round,
        under_node: under_node.as_ref(),
        position: peer.position,
        position_last: peer.position_last,
        more: peer.more,
        nonce: nonce.as_ref(),
        answer_nonce: answer_nonce.as_ref(),
    };
    let root = fb::Peer::create(fbb, &arguments);
    fbb.finish_size_prefixed(root, Some(PEER_IDENTIFIER));
    builder.finished(PEER_FRAME_BYTES_MAX)
}

/// The message that the whole of `frame` is.
pub fn decode_peer(frame: &[u8]) -> Result<Peer<'_>, BadPeer> {
    check_whole(frame, PEER_IDENTIFIER, PEER_FRAME_BYTES_MAX).map_err(BadPeer::Frame)?;
    let options = verifier_options(frame.len(), 1);
    let table = flatbuffers::size_prefixed_root_with_opts::<fb::Peer>(&options, frame)
        .map_err(|_| BadPeer::Malformed)?;
    let kind = table.kind().0;
    let number = |id: Option<&fb::Id128>| {
        id.map_or(0, |id| u128::from(id.low()) | u128::from(id.high()) << 64)
    };
    let peer = Peer {
        kind: Kind::from_wire(kind).ok_or(BadPeer::Kind(kind))?,
        id: table.id(),
        status: table.status(),
        timeout_ms: table.timeout_ms(),
        bucket: bytes(table.bucket()),
        key: bytes(table.key()),
        object: bytes(table.object()),
        values: table.values(),
        frame: bytes(table.frame()),
        message: table.message().unwrap_or_default(),
        protocol: table.protocol(),
        cluster: number(table.cluster()),
        node: number(table.node()),
        ring_epoch: table.ring_epoch(),
        ring_digest: table.ring_digest(),
        proof: number(table.proof()),
        address: table.address().unwrap_or_default(),
        shards: table.shards(),
        named: table.named(),
        ring: bytes(table.ring()),
        secret: bytes(table.secret()),
        ballot_round: table.ballot_round(),
        ballot_node: number(table.ballot_node()),
        under_round: table.under_round(),
        under_node: number(table.under_node()),
        position: table.position(),
        position_last: table.position_last(),
        more: table.more(),
        nonce: number(table.nonce()),
        answer_nonce: number(table.answer_nonce()),
    };
    if peer.check() != table.check() {
        return Err(BadPeer::Check);
    }
    let sound = peer.bucket.len() <= BUCKET_BYTES_MAX
        && peer.key.len() <= KEY_BYTES_MAX
        && peer.address.len() <= ADDRESS_BYTES_MAX
        && peer.ring.len() <= RING_BYTES_MAX;
    sound.then_some(peer).ok_or(BadPeer::Malformed)
}
