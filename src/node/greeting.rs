//! How nodes introduce themselves at both ends of a link: of which cluster, with which ring, and that they are who they
//! say.

use super::shard::{Shard, SharedShard};
use crate::membership::proof::Claim;
use crate::ring::codec as ring_codec;
use crate::ring::member::NodeId;
use crate::runtime::net::ConnectionId;
use crate::wire::message::Status;
use crate::wire::peer::{Kind, PEER_PROTOCOL_VERSION, Peer};
use std::cmp::Ordering;

/// The id of a pong that no ping asked for: it tells of a new state.
pub const UNASKED: u64 = u64::MAX;

/// How the ring of the other end of a link compares to this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theirs {
    Older,
    Same,
    Newer,
}

impl Shard {
    fn claim(&self, kind: Kind, from: NodeId, to: NodeId) -> Claim {
        Claim {
            kind,
            cluster: self.identity.cluster,
            from,
            to,
            ring_epoch: self.ring.epoch().0,
            ring_digest: self.ring.digest(),
        }
    }

    /// A hello to that node, or a welcome of it.
    pub fn introduction(&self, kind: Kind, to: NodeId) -> Peer<'static> {
        let claim = self.claim(kind, self.node, to);
        Peer {
            kind,
            protocol: PEER_PROTOCOL_VERSION,
            cluster: claim.cluster,
            node: claim.from.0,
            ring_epoch: claim.ring_epoch,
            ring_digest: claim.ring_digest,
            proof: claim.proof(&self.identity.keys.current),
            ..Peer::default()
        }
    }

    /// Who introduces itself to this node, and the ring that it has; else why it is not believed.
    pub fn introduced(&self, peer: &Peer<'_>) -> Result<(NodeId, Theirs), String> {
        if peer.protocol != PEER_PROTOCOL_VERSION {
            return Err(format!(
                "nodes speak protocol {PEER_PROTOCOL_VERSION} here, not {}",
                peer.protocol
            ));
        }
        if peer.cluster != self.identity.cluster {
            return Err("this node is of another cluster".into());
        }
        let from = NodeId(peer.node);
        let claim = Claim {
            ring_epoch: peer.ring_epoch,
            ring_digest: peer.ring_digest,
            ..self.claim(peer.kind, from, self.node)
        };
        if !claim.is_proved(&self.identity.keys.current, peer.proof) {
            return Err("this node has another secret".into());
        }
        let own = self.ring.epoch().0;
        match peer.ring_epoch.cmp(&own) {
            Ordering::Less => Ok((from, Theirs::Older)),
            Ordering::Greater => Ok((from, Theirs::Newer)),
            Ordering::Equal if peer.ring_digest != self.ring.digest() => Err(format!(
                "TWO RINGS of epoch {own}: take one of these two nodes out, and start it with an empty directory"
            )),
            Ordering::Equal if self.ring.index_of(from).is_none() => {
                Err("this node's ring does not hold it".into())
            }
            Ordering::Equal => Ok((from, Theirs::Same)),
        }
    }

    /// What this shard tells of itself at the other end of a link.
    pub fn state_for_peers(&self) -> Status {
        match self.phase.is_of_use() {
            true => Status::Ok,
            false => Status::NotReady,
        }
    }

    /// This shard serves now, or no longer: whoever asks it here knows at once, not when an answer is due.
    pub fn tell_peers(&mut self) {
        let told = Peer {
            kind: Kind::Pong,
            id: UNASKED,
            status: self.state_for_peers() as u8,
            ..Peer::default()
        };
        for id in self.connections.peers() {
            self.answer_peer(id, &told);
        }
    }

    pub fn on_hello_of_peer(&mut self, shared: &SharedShard, id: ConnectionId, peer: &Peer<'_>) {
        let why = match self.introduced(peer) {
            Ok((node, Theirs::Same)) => {
                if let Some(connection) = self.connections.get(id) {
                    connection.peer = Some(node);
                }
                let welcome = Peer {
                    status: self.state_for_peers() as u8,
                    ..self.introduction(Kind::Welcome, node)
                };
                return self.answer_peer(id, &welcome);
            }
            Ok((node, Theirs::Older)) if self.ring.index_of(node).is_some() => {
                let mut ring = Vec::new();
                ring_codec::encode(self.ring.value(), &mut ring);
                let refused = Peer {
                    ring: &ring,
                    ..self.introduction(Kind::Refused, node)
                };
                self.answer_peer(id, &refused);
                return self.close_after_replies(id);
            }
            Ok((_, Theirs::Older)) => "this node's ring does not hold it".to_owned(),
            Ok((_, Theirs::Newer)) => {
                self.learn_from(shared, peer, Theirs::Newer);
                "this node has an older ring still".to_owned()
            }
            Err(why) => why,
        };
        let refused = Peer {
            kind: Kind::Refused,
            message: &why,
            ..Peer::default()
        };
        self.answer_peer(id, &refused);
        self.close_after_replies(id);
    }

    /// Takes a newer ring from an introduction that carries it.
    pub fn learn_from(&mut self, shared: &SharedShard, peer: &Peer<'_>, theirs: Theirs) {
        if theirs != Theirs::Newer || peer.ring.is_empty() {
            return;
        }
        let ring = ring_codec::decode(peer.ring).ok();
        if let Some(ring) = ring.filter(|ring| ring.digest() == peer.ring_digest) {
            self.on_newer_ring(shared, ring);
        }
    }
}
