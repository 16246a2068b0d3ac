//! What nodes say to each other, as plain values. Meanings and formats: `schema/peer.fbs`.

use crate::base::checksum::{crc32c, crc32c_append};

/// The protocol between nodes that this program speaks.
pub const PEER_PROTOCOL_VERSION: u16 = 2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    #[default]
    Hello = 1,
    Welcome = 2,
    Refused = 3,
    Ping = 4,
    Pong = 5,
    Store = 6,
    Stored = 7,
    Read = 8,
    Found = 9,
    Forward = 10,
    Forwarded = 11,
    Join = 12,
    Joined = 13,
    Prepare = 14,
    Promised = 15,
    Accept = 16,
    Accepted = 17,
    Scan = 18,
    Scanned = 19,
    Filled = 20,
    Noted = 21,
    Learn = 22,
    Challenge = 23,
}

impl Kind {
    pub const ALL: [Kind; 23] = [
        Kind::Hello,
        Kind::Welcome,
        Kind::Refused,
        Kind::Ping,
        Kind::Pong,
        Kind::Store,
        Kind::Stored,
        Kind::Read,
        Kind::Found,
        Kind::Forward,
        Kind::Forwarded,
        Kind::Join,
        Kind::Joined,
        Kind::Prepare,
        Kind::Promised,
        Kind::Accept,
        Kind::Accepted,
        Kind::Scan,
        Kind::Scanned,
        Kind::Filled,
        Kind::Noted,
        Kind::Learn,
        Kind::Challenge,
    ];

    pub fn from_wire(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// The answer to a Store that left out a value which is not there: send them all. Not a status of clients.
pub const NEED: u8 = 255;

/// One message: ONE flat set of fields for all kinds, as in the schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer<'a> {
    pub kind: Kind,
    pub id: u64,
    /// A `Status`, or `NEED`.
    pub status: u8,
    pub timeout_ms: u32,
    pub bucket: &'a [u8],
    pub key: &'a [u8],
    /// `causal::object_codec`; empty: nothing is held.
    pub object: &'a [u8],
    pub values: bool,
    pub frame: &'a [u8],
    pub message: &'a str,
    pub protocol: u16,
    pub cluster: u128,
    pub node: u128,
    pub ring_epoch: u64,
    pub ring_digest: u64,
    pub proof: u128,
    pub address: &'a str,
    pub shards: u16,
    pub named: u64,
    pub ring: &'a [u8],
    pub secret: &'a [u8],
    pub ballot_round: u64,
    pub ballot_node: u128,
    pub under_round: u64,
    pub under_node: u128,
    pub position: u64,
    pub position_last: u64,
    pub more: bool,
    pub nonce: u128,
    pub answer_nonce: u128,
}

impl Peer<'_> {
    /// crc32c of what clients have at stake.
    pub fn check(&self) -> u32 {
        let head = [self.kind as u8, self.status, self.values.into()];
        let check = crc32c_append(crc32c(&head), &self.id.to_le_bytes());
        let parts = [
            self.bucket,
            self.key,
            self.object,
            self.frame,
            self.ring,
            self.secret,
            self.address.as_bytes(),
        ];
        let check = parts.into_iter().fold(check, |check, part| {
            crc32c_append(
                crc32c_append(check, &(part.len() as u32).to_le_bytes()),
                part,
            )
        });
        let mut tail = [0; 161];
        tail[..8].copy_from_slice(&self.ballot_round.to_le_bytes());
        tail[8..24].copy_from_slice(&self.ballot_node.to_le_bytes());
        tail[24..32].copy_from_slice(&self.under_round.to_le_bytes());
        tail[32..48].copy_from_slice(&self.under_node.to_le_bytes());
        tail[48..56].copy_from_slice(&self.position.to_le_bytes());
        tail[56..64].copy_from_slice(&self.position_last.to_le_bytes());
        tail[64] = self.more.into();
        tail[65..81].copy_from_slice(&self.cluster.to_le_bytes());
        tail[81..97].copy_from_slice(&self.node.to_le_bytes());
        tail[97..105].copy_from_slice(&self.ring_epoch.to_le_bytes());
        tail[105..113].copy_from_slice(&self.ring_digest.to_le_bytes());
        tail[113..121].copy_from_slice(&self.named.to_le_bytes());
        tail[121..123].copy_from_slice(&self.shards.to_le_bytes());
        tail[123..125].copy_from_slice(&self.protocol.to_le_bytes());
        tail[125..129].copy_from_slice(&self.timeout_ms.to_le_bytes());
        tail[129..145].copy_from_slice(&self.nonce.to_le_bytes());
        tail[145..161].copy_from_slice(&self.answer_nonce.to_le_bytes());
        crc32c_append(check, &tail)
    }
}
