//! From one ring to the next: full members agree on it, shard 0 of each node writes it down, all shards take it, links
//! are made anew. What is decided is in `ring::register`; here is who asks whom.
//!
//! 1. A ring counts on a node once it is on its disk; then on shard 0, then on the others.
//! 2. What was under way under the old ring is answered as if links had broken. A write that is not appended yet is
//!    refused.
//! 3. Whoever has an older ring than the other end of a link is given the newer one, and takes it.

use super::coordinate::{Coordinated, Quorums};
use super::crossing::{self, Awaited};
use super::fill;
use super::flights::{Answer, Replicas};
use super::links::Remote;
use super::shard::{Shard, SharedShard};
use crate::base::limits;
use crate::base::marks::mark;
use crate::base::units::Nanos;
use crate::coordinator::quorum::Quorum;
use crate::engine::key::{Key, KeyRef};
use crate::membership::formation::Candidate;
use crate::replica::identity;
use crate::ring::claim;
use crate::ring::codec as ring_codec;
use crate::ring::member::{Member, NodeId};
use crate::ring::owners::{Ring, RingEpoch, RingValue, Unsound};
use crate::ring::position::Position;
use crate::ring::register::{Ballot, Proposal, Register, Vote};
use crate::ring::shard_map::{ShardId, ShardMap};
use crate::runtime::Queue;
use crate::runtime::disk::{Disk, DiskError};
use crate::runtime::exclusive::Exclusive;
use crate::runtime::log::{Event, Level};
use crate::runtime::mailbox::AskRefused;
use crate::runtime::net::ConnectionId;
use crate::wire::codec;
use crate::wire::message::Status;
use crate::wire::peer::{Kind, Peer};
use smallvec::smallvec;
use std::cell::Cell;
use std::collections::BTreeSet;

use std::sync::Arc;
use std::time::Duration;

/// What shard 0 has besides: this node's part in the agreement.
pub struct Agreement {
    register: Exclusive<Register>,
    disk: Disk,
    /// A proposal of this node is under way.
    proposing: Cell<bool>,
    /// The last round that this life has used: a ballot is used once, whether or not it was written down here.
    round: Cell<u64>,
}

impl Agreement {
    pub fn new(register: Register, disk: Disk) -> Agreement {
        Agreement {
            register: Exclusive::new(register),
            disk,
            proposing: Cell::new(false),
            round: Cell::new(0),
        }
    }

    /// This node's vote; on return what it promises is on the disk.
    async fn vote(&self, ask: &Ask) -> Result<Vote, DiskError> {
        let mut register = self.register.lock().await;
        let mut next = register.clone();
        let vote = match ask {
            Ask::Prepare(epoch, ballot) => next.on_prepare(*epoch, *ballot),
            Ask::Accept(epoch, ballot, ring) => next.on_accept(*epoch, *ballot, ring),
        };
        if next != *register {
            identity::keep_register(&self.disk, &next).await?;
            *register = next;
        }
        Ok(vote)
    }
}

/// What a proposer asks a full member.
#[derive(Clone, Debug)]
enum Ask {
    Prepare(RingEpoch, Ballot),
    Accept(RingEpoch, Ballot, Vec<u8>),
}

impl Ask {
    fn peer(&self) -> Peer<'_> {
        let (kind, epoch, ballot, ring) = match self {
            Ask::Prepare(epoch, ballot) => (Kind::Prepare, epoch, ballot, &[][..]),
            Ask::Accept(epoch, ballot, ring) => (Kind::Accept, epoch, ballot, &ring[..]),
        };
        Peer {
            kind,
            ring_epoch: epoch.0,
            ballot_round: ballot.round,
            ballot_node: ballot.node,
            ring,
            ..Peer::default()
        }
    }

    fn of(peer: &Peer<'_>) -> Ask {
        let epoch = RingEpoch(peer.ring_epoch);
        let ballot = Ballot {
            round: peer.ballot_round,
            node: peer.ballot_node,
        };
        match peer.kind {
            Kind::Prepare => Ask::Prepare(epoch, ballot),
            _ => Ask::Accept(epoch, ballot, peer.ring.to_vec()),
        }
    }
}

/// A vote as it travels.
fn voted<'a>(kind: Kind, id: u64, vote: &'a Result<Vote, DiskError>) -> Peer<'a> {
    let mut peer = Peer {
        kind,
        id,
        ..Peer::default()
    };
    match vote {
        Ok(Vote::Promised(Some((under, ring)))) => {
            peer.under_round = under.round;
            peer.under_node = under.node;
            peer.ring = ring;
        }
        Ok(Vote::Promised(None) | Vote::Accepted) => {}
        Ok(Vote::Refused(ballot)) => {
            peer.status = Status::OutcomeUnknown as u8;
            peer.ballot_round = ballot.round;
            peer.ballot_node = ballot.node;
        }
        Ok(Vote::OtherEpoch) | Err(_) => peer.status = Status::NotReady as u8,
    }
    peer
}

/// The vote that an answer is.
pub fn vote_of(peer: &Peer<'_>) -> Vote {
    let refused = Status::OutcomeUnknown as u8;
    match (peer.kind, peer.status) {
        (Kind::Promised, 0) if peer.ring.is_empty() => Vote::Promised(None),
        (Kind::Promised, 0) => {
            let under = Ballot {
                round: peer.under_round,
                node: peer.under_node,
            };
            Vote::Promised(Some((under, peer.ring.to_vec())))
        }
        (Kind::Accepted, 0) => Vote::Accepted,
        (_, status) if status == refused => Vote::Refused(Ballot {
            round: peer.ballot_round,
            node: peer.ballot_node,
        }),
        _ => Vote::OtherEpoch,
    }
}

impl Shard {
    /// Another node's proposer asks for this node's vote.
    pub fn on_proposal(&mut self, shared: &SharedShard, id: ConnectionId, peer: &Peer<'_>) {
        let Some(agreement) = self.agreement.clone() else {
            return self.close_after_replies(id);
        };
        let (ask, flight) = (Ask::of(peer), peer.id);
        let kind = match peer.kind {
            Kind::Prepare => Kind::Promised,
            _ => Kind::Accepted,
        };
        let shared = shared.clone();
        self.runtime.clone().spawn(Queue::Foreground, async move {
            let vote = agreement.vote(&ask).await;
            let mut shard = shared.borrow_mut();
            shard.answer_peer(id, &voted(kind, flight, &vote));
            shard.flush();
        });
    }

    /// A node without a ring would be one of this one's: it is taken in beside the others, to be filled.
    /// `in_place_of`: one that was to be filled, and whose directory is gone.
    pub fn admit(
        &mut self,
        shared: &SharedShard,
        candidate: Candidate,
        in_place_of: Option<NodeId>,
    ) -> Result<(), String> {
        let value = self.ring.value();
        let mut members = value.members.clone();
        members.retain(|member| Some(member.id) != in_place_of);
        if usize::from(value.replicas) <= members.len() {
            return Err(format!(
                "the ring has {} nodes and holds data, and takes no further one yet; start a new ring with all nodes",
                members.len()
            ));
        }
        // One at a time; who comes while another is filled asks again.
        let others_fill = value.filling.iter().any(|&node| Some(node) != in_place_of);
        let busy = self.agreement.as_ref().is_none_or(|a| a.proposing.get());
        if !others_fill && !busy && !self.ring.is_filling(self.node) {
            members.push(Member {
                id: candidate.node,
                address: candidate.address,
                weight: limits::WEIGHT_DEFAULT,
                zone: String::new(),
                shards: candidate.shards,
            });
            members.sort_by_key(|member| member.id);
            let wished = with_new(&self.ring, members, candidate.node);
            let wished = wished.map_err(|why| why.to_string())?;
            self.begin_proposal(shared, wished);
        }
        Ok(())
    }

    /// A node that fills says that it holds all of its keys.
    pub fn on_filled(&mut self, shared: &SharedShard, from: NodeId, epoch: RingEpoch) {
        let ring = &self.ring;
        if epoch != ring.epoch() || !ring.is_filling(from) || ring.is_filling(self.node) {
            return;
        }
        let mut wished = ring.value().clone();
        wished.epoch = RingEpoch(epoch.0 + 1);
        wished.filling.retain(|&node| node != from);
        self.begin_proposal(shared, wished);
    }

    /// One proposal at a time; whoever wishes for it asks again.
    fn begin_proposal(&mut self, shared: &SharedShard, wished: RingValue) {
        let Some(agreement) = self.agreement.clone() else {
            return;
        };
        if agreement.proposing.replace(true) {
            return;
        }
        let shared = shared.clone();
        self.runtime.clone().spawn(Queue::Foreground, async move {
            propose(&shared, &agreement, wished).await;
            agreement.proposing.set(false);
        });
    }

    /// Makes a ring that this node has written down the one of this shard.
    pub fn take_ring(&mut self, shared: &SharedShard, ring: Arc<Ring>) {
        if ring.epoch() <= self.ring.epoch() {
            return;
        }
        let me = ring.index_of(self.node);
        self.me = me.expect("a node takes only rings that hold it");
        let shards = |member: &Member| ShardMap::even(ring.virtual_nodes(), member.shards);
        self.maps = ring.members().iter().map(shards).collect();
        self.links.add(ring.members(), self.node);
        self.identity.agreed_ring = Some(ring.clone());
        self.ring = ring;
        let now = self.runtime.now();
        for remote in self.links.renew(&self.net, now) {
            self.flights.on_lost(remote);
        }
        // Those that dialled this shard did so under the old ring.
        for id in self.connections.peers() {
            self.connections.cut(&self.net, id);
        }
        if self.ring.is_filling(self.node) {
            fill::begin(self, shared);
        }
    }

    /// Another node, or another shard of this one, knows this ring. If it is newer than this node's, it is taken.
    pub fn on_newer_ring(&mut self, shared: &SharedShard, ring: Ring) {
        let newer = ring.epoch() > self.ring.epoch() && ring.index_of(self.node).is_some();
        if !newer || ring.value().cluster != self.identity.cluster {
            return;
        }
        if self.agreement.is_some() {
            mark!(RingLearned);
            let shared = shared.clone();
            self.runtime.clone().spawn(Queue::Foreground, async move {
                keep_and_spread(&shared, ring).await;
            });
            return;
        }
        let frame = learn(&ring);
        // Shard 0 spreads it; if it cannot be told now, the next link that is refused tells it.
        let _ = crossing::ask(self, ShardId(0), self.noted(), &frame);
    }

    /// What another shard of this node says of the ring: `Learn`, or `Filled`.
    pub fn on_mail_of_ring(&mut self, shared: &SharedShard, frame: &[u8]) {
        let peer = codec::decode_peer(frame).expect("a shard of ours made it");
        match peer.kind {
            Kind::Learn => {
                let ring = ring_codec::decode(peer.ring).expect("a shard of ours sent it");
                match self.agreement.is_some() {
                    true => self.on_newer_ring(shared, ring),
                    false => self.take_ring(shared, Arc::new(ring)),
                }
            }
            _ => fill::on_shard_filled(self, shared, peer.shards, RingEpoch(peer.ring_epoch)),
        }
    }

    /// Mail that is answered without a word.
    pub fn noted(&self) -> Awaited {
        let deadline = self.runtime.now().0 + limits::TIMEOUT_MS_DEFAULT * 1_000_000;
        Awaited::Noted {
            deadline: Nanos(deadline),
        }
    }
}

/// The ring after this one, of these members, of which the new one fills.
fn with_new(ring: &Ring, members: Vec<Member>, new: NodeId) -> Result<RingValue, Unsound> {
    let mut current = ring.value().clone();
    // Who was to be filled, and is replaced, is no member of the next one.
    current.filling.clear();
    let plan = claim::plan(&Ring::new(current)?, members)?;
    let mut wished = plan.ring.value().clone();
    wished.filling = vec![new];
    Ok(wished)
}

fn learn(ring: &Ring) -> Vec<u8> {
    let mut bytes = Vec::new();
    ring_codec::encode(ring.value(), &mut bytes);
    let peer = Peer {
        kind: Kind::Learn,
        ring: &bytes,
        ..Peer::default()
    };
    codec::encode_peer(&mut codec::Builder::new(), &peer).to_vec()
}

/// Runs ballots until the ring of the wished one's epoch is decided, whichever it is, or others are in the way for too
/// long.
async fn propose(shared: &SharedShard, agreement: &Agreement, wished: RingValue) {
    let mut bytes = Vec::new();
    ring_codec::encode(&wished, &mut bytes);
    for _ in 0..limits::BALLOTS_MAX {
        let (node, runtime) = {
            let shard = shared.borrow();
            if shard.ring.epoch().0 + 1 != wished.epoch.0 {
                return;
            }
            (shard.node, shard.runtime.clone())
        };
        let next = agreement.register.lock().await.next_round();
        let round = next.max(agreement.round.get() + 1);
        agreement.round.set(round);
        let ballot = Ballot::of(round, node);
        let members = shared.borrow().ring.full_members().count();
        let mut proposal = Proposal::new(wished.epoch, ballot, bytes.clone(), members);
        let prepare = Ask::Prepare(proposal.epoch, ballot);
        ask_full_members(shared, agreement, &prepare, &mut proposal).await;
        if proposal.is_promised() {
            let accept = Ask::Accept(proposal.epoch, ballot, proposal.ring.clone());
            ask_full_members(shared, agreement, &accept, &mut proposal).await;
        }
        if proposal.is_decided() {
            if let Ok(ring) = ring_codec::decode(&proposal.ring) {
                mark!(RingAgreed);
                keep_and_spread(shared, ring).await;
            }
            return;
        }
        let beaten = proposal.beaten_by.map_or(0, |beaten| beaten.round);
        agreement.round.set(round.max(beaten));
        // Two that propose at once get out of each other's way.
        let pause = 20 + runtime.random_u64() % 200;
        runtime.sleep(Duration::from_millis(pause)).await;
    }
}

/// Asks all full members, this one among them, and counts their votes until all have answered or it takes too long.
async fn ask_full_members(
    shared: &SharedShard,
    agreement: &Agreement,
    ask: &Ask,
    proposal: &mut Proposal,
) {
    // A ballot whose own vote could not be written down is given up: after a restart it may be another proposal's.
    let Ok(vote) = agreement.vote(ask).await else {
        return;
    };
    proposal.on_vote(vote);
    let opened = {
        let mut shard = shared.borrow_mut();
        let full = shard.ring.full_members();
        let others = full.map(|m| m.id).filter(|&id| id != shard.node);
        let replicas: Replicas = others
            .map(|node| Remote {
                node,
                shard: ShardId(0),
            })
            .collect();
        let now = shard.runtime.now();
        let deadline = Nanos(now.0 + limits::TIMEOUT_MS_DEFAULT * 1_000_000);
        let flight = shard.flights.open(replicas.clone(), now, deadline);
        flight.map(|flight| (flight, replicas))
    };
    let Some((flight, replicas)) = opened else {
        return;
    };
    let on = plain(shared, flight, replicas);
    let peer = ask.peer();
    let mut open = (0..on.replicas.len())
        .filter(|&replica| on.ask(replica, &peer))
        .count();
    while open > 0 {
        match on.next().await {
            Some(Answer::Voted { vote, .. }) => {
                open -= 1;
                proposal.on_vote(vote);
            }
            Some(Answer::Refused { .. }) => open -= 1,
            Some(_) => {}
            None => break,
        }
    }
    on.close();
}

/// Asks that are of no key.
pub fn plain(
    shared: &SharedShard,
    flight: super::flights::FlightId,
    replicas: Replicas,
) -> Coordinated {
    let one = Quorum::of(1, 1, 1, 1).expect("one of one");
    Coordinated {
        shared: shared.clone(),
        flight,
        key: Key::from(KeyRef {
            position: Position(0),
            bucket: &[],
            key: &[],
        }),
        own: replicas.len(),
        full: replicas.len(),
        replicas,
        quorums: Quorums {
            full: one,
            all: one,
        },
    }
}

/// Runs on shard 0. Writes a newer ring down, then makes it that of all shards.
async fn keep_and_spread(shared: &SharedShard, ring: Ring) {
    let Some(agreement) = shared.borrow().agreement.clone() else {
        return;
    };
    let ring = Arc::new(ring);
    {
        let mut register = agreement.register.lock().await;
        let identity = {
            let shard = shared.borrow();
            if ring.epoch() <= shard.ring.epoch() {
                return;
            }
            shard.identity.clone()
        };
        // A start finds the ring, and a register of it; a register of an older epoch decides nothing any more.
        let kept = identity::keep_ring(&agreement.disk, &identity, &ring).await;
        let next = Register::new(RingEpoch(ring.epoch().0 + 1));
        let kept = match kept {
            Ok(()) => identity::keep_register(&agreement.disk, &next).await,
            Err(error) => Err(error),
        };
        let mut shard = shared.borrow_mut();
        if let Err(error) = kept {
            return shard.runtime.log(not_kept(&ring, &error));
        }
        *register = next;
        shard.runtime.log(taken(&ring));
        shard.take_ring(shared, ring.clone());
        shard.flush();
    }
    let (shards, runtime) = {
        let shard = shared.borrow();
        (shard.mailbox.shards(), shard.runtime.clone())
    };
    let frame = learn(&ring);
    for other in (1..shards).map(ShardId) {
        loop {
            let asked = {
                let mut shard = shared.borrow_mut();
                let noted = shard.noted();
                crossing::ask(&mut shard, other, noted, &frame)
            };
            match asked {
                // The mail of a shard is taken in order, and never lost while it lives.
                Ok(()) | Err(AskRefused::Ended) => break,
                Err(AskRefused::NoCredit) => {
                    runtime.sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }
}

fn taken(ring: &Ring) -> Event {
    let (members, filling) = (ring.members().len(), ring.value().filling.len());
    let epoch = ring.epoch().0;
    let message = match filling {
        0 => format!("ring {epoch}: {members} node(s), all of which hold their keys"),
        _ => format!("ring {epoch}: {members} node(s), of which {filling} is being filled"),
    };
    Event::new(Level::Info, "ring", message)
        .with("epoch", epoch)
        .with("members", members as u64)
        .with("filling", filling as u64)
}

fn not_kept(ring: &Ring, error: &DiskError) -> Event {
    let epoch = ring.epoch().0;
    let message = format!("ring {epoch} cannot be written down, and is not taken: {error}");
    Event::new(Level::Error, "ring_not_kept", message).with("epoch", epoch)
}

/// The shards of this node that hold all of their keys, while it fills.
#[derive(Debug, Default)]
pub struct Filled {
    pub epoch: RingEpoch,
    pub shards: BTreeSet<u16>,
}

/// The full members of a ring, as this shard asks their first shards.
pub fn full_members(shard: &Shard) -> Replicas {
    let full = shard.ring.full_members();
    let others = full.filter(|member| member.id != shard.node);
    let remote = |member: &Member| Remote {
        node: member.id,
        shard: ShardId(0),
    };
    let mut replicas: Replicas = smallvec![];
    replicas.extend(others.map(remote));
    replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::owners::MemberIndex;

    fn member(id: u128) -> Member {
        Member {
            id: NodeId(id),
            address: std::net::SocketAddr::from(([127, 0, 0, id as u8], 7700)),
            weight: 100,
            zone: String::new(),
            shards: 1,
        }
    }

    #[test]
    fn who_was_to_be_filled_and_is_lost_can_be_replaced() {
        let alone = RingValue {
            cluster: 1,
            epoch: RingEpoch(1),
            replicas: 3,
            members: vec![member(1)],
            banned: Vec::new(),
            filling: Vec::new(),
            owners: vec![MemberIndex(0); 16],
        };
        let first = Ring::new(alone).unwrap();
        let second = with_new(&first, vec![member(1), member(2)], NodeId(2)).unwrap();
        let second = Ring::new(second).unwrap();
        assert!(second.is_filling(NodeId(2)));
        let third = with_new(&second, vec![member(1), member(3)], NodeId(3)).unwrap();
        let third = Ring::new(third).unwrap();
        assert_eq!(third.epoch(), RingEpoch(3));
        assert!(third.is_filling(NodeId(3)) && third.is_banned(NodeId(2)));
        assert_eq!(third.full_members().count(), 1);
    }
}
