//! A node without a ring asks the nodes that it was told of, and answers those that ask it, until it has one. Runs on
//! shard 0 before any shard serves; what it decides is in `membership::formation`.

use super::config::{Options, Ports};
use super::{Announce, StartError, peers};
use crate::base::limits::{FORMATION_ASK_MS, FORMATION_TELL_MS, STRANGER_FRAME_BYTES_MAX};
use crate::base::units::Nanos;
use crate::membership::formation::{self, Answer, Candidate, Formation, FormationError, Next};
use crate::replica::identity::{Identity, IdentityError};
use crate::ring::codec as ring_codec;
use crate::ring::member::Member;
use crate::ring::owners::Ring;
use crate::ring::shard_map::ShardId;
use crate::runtime::Runtime;
use crate::runtime::disk::Disk;
use crate::runtime::net::{ConnectionId, Event, Net};
use crate::runtime::time::timeout;
use crate::wire::codec;
use crate::wire::frame::{self, PEER_IDENTIFIER, REQUEST_IDENTIFIER, Split};
use crate::wire::message::{Reply, Status};
use crate::wire::peer::{Kind, PEER_PROTOCOL_VERSION, Peer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Until this node has a ring; `None`: it was asked to stop.
pub async fn form(
    runtime: &Runtime,
    disk: &Disk,
    options: &Options,
    ports: &Ports,
    announce: &dyn Fn(Announce<'_>),
) -> Result<Option<Identity>, StartError> {
    let at = |source: IdentityError| StartError::Identity {
        data: options.data.display().to_string(),
        source,
    };
    let own = Candidate {
        node: Identity::candidate(runtime, disk).await.map_err(at)?,
        address: options.advertised(ports),
        shards: ports.shards.len() as u16,
    };
    let mut forming = Forming {
        runtime,
        net: runtime.net(),
        formation: Formation::new(own, &options.join)?,
        asking: BTreeMap::new(),
        asked_by: BTreeMap::new(),
        builder: codec::Builder::new(),
    };
    let (ring, secret) = match forming.run(announce).await? {
        Outcome::Stopped => return Ok(None),
        Outcome::Form(members) => {
            let wide =
                || (u128::from(runtime.random_u64()) << 64) | u128::from(runtime.random_u64());
            let (cluster, secret) = (wide(), wide().to_le_bytes());
            (formation::form(cluster, members)?, secret)
        }
        Outcome::Adopt(ring, secret) => (*ring, secret),
    };
    let identity = Identity::enter(disk, own.node, ring, secret)
        .await
        .map_err(at)?;
    forming.close_all();
    Ok(Some(identity))
}

enum Outcome {
    Stopped,
    Form(Vec<Member>),
    Adopt(Box<Ring>, [u8; 16]),
}

/// What has come on a connection, and whether all is said.
#[derive(Default)]
struct Talk {
    inbox: Vec<u8>,
    answered: bool,
}

struct Forming<'a> {
    runtime: &'a Runtime,
    net: Net,
    formation: Formation,
    /// The connections on which others are asked, and since when.
    asking: BTreeMap<ConnectionId, (SocketAddr, Nanos, Talk)>,
    asked_by: BTreeMap<ConnectionId, Talk>,
    builder: codec::Builder,
}

impl Forming<'_> {
    async fn run(&mut self, announce: &dyn Fn(Announce<'_>)) -> Result<Outcome, FormationError> {
        let pause = Duration::from_millis(FORMATION_ASK_MS);
        let mut next_ask = self.runtime.now();
        let mut next_tell = Nanos(self.runtime.now().0 + FORMATION_TELL_MS * 1_000_000 / 5);
        let mut events = Vec::new();
        let mut next = self.formation.begin();
        loop {
            match next {
                Next::Wait => {}
                Next::Form(members) => return Ok(Outcome::Form(members)),
                Next::Adopt(ring, secret) => return Ok(Outcome::Adopt(ring, secret)),
                Next::Refuse(why) => return Err(why),
            }
            next = Next::Wait;
            let now = self.runtime.now();
            if next_ask <= now {
                self.ask_all(now);
                next_ask = Nanos(now.0 + pause.as_nanos() as u64);
            }
            if next_tell <= now {
                announce(Announce::Forming(&self.formation.missing()));
                next_tell = Nanos(now.0 + FORMATION_TELL_MS * 1_000_000);
            }
            timeout(self.runtime, pause, self.net.events(&mut events)).await;
            for event in events.drain(..) {
                if let Event::Stop = event {
                    return Ok(Outcome::Stopped);
                }
                match (&next, &event) {
                    (Next::Wait, _) => next = self.on_event(event),
                    // Whoever comes now comes again when the shards serve.
                    (_, Event::Accepted { connection, .. }) => self.net.close(*connection),
                    _ => {}
                }
            }
        }
    }

    /// Asks each of the others that is not being asked; gives up those that do not answer.
    fn ask_all(&mut self, now: Nanos) {
        let late = |since: Nanos| since.0 + 10 * FORMATION_ASK_MS * 1_000_000 <= now.0;
        let mut given_up = Vec::new();
        for (&id, (address, since, _)) in &self.asking {
            if late(*since) {
                given_up.push((id, *address));
            }
        }
        for (id, address) in given_up {
            self.asking.remove(&id);
            self.net.close(id);
            self.formation.on_silence(address);
        }
        let others: Vec<SocketAddr> = self.formation.others().collect();
        for address in others {
            let asked = self.asking.values().any(|(other, ..)| *other == address);
            if !asked {
                let id = self.net.connect(first_shard(address));
                self.asking.insert(id, (address, now, Talk::default()));
            }
        }
    }

    fn on_event(&mut self, event: Event) -> Next {
        match event {
            Event::Accepted { connection, .. } => {
                self.asked_by.insert(connection, Talk::default());
            }
            Event::Connected { connection } if self.asking.contains_key(&connection) => {
                let ask = introduction(Kind::Join, &self.formation);
                self.net.send(
                    connection,
                    codec::encode_peer(&mut self.builder, &ask.peer()).to_vec(),
                );
            }
            Event::Chunk { connection, bytes } => return self.on_bytes(connection, &bytes),
            Event::Ended { connection } | Event::Closed { connection, .. } => {
                if let Some((address, ..)) = self.asking.remove(&connection) {
                    self.formation.on_silence(address);
                }
                self.asked_by.remove(&connection);
                self.net.close(connection);
            }
            _ => {}
        }
        Next::Wait
    }

    fn on_bytes(&mut self, connection: ConnectionId, bytes: &[u8]) -> Next {
        if let Some((address, _, talk)) = self.asking.get_mut(&connection) {
            let address = *address;
            talk.inbox.extend_from_slice(bytes);
            let answer = match frame::split(&talk.inbox, PEER_IDENTIFIER, STRANGER_FRAME_BYTES_MAX)
            {
                Split::NeedMore { .. } => return Next::Wait,
                Split::Frame { len } => answer(&talk.inbox[..len]),
                Split::Bad(why) => Err(why.to_string()),
            };
            self.asking.remove(&connection);
            self.net.close(connection);
            return match answer {
                Ok(answer) => self.formation.on_answer(address, answer),
                // What is garbled, or of who has no room for one more connection, is no answer.
                Err(_) => {
                    self.formation.on_silence(address);
                    Next::Wait
                }
            };
        }
        if let Some(talk) = self.asked_by.get_mut(&connection)
            && !talk.answered
        {
            talk.inbox.extend_from_slice(bytes);
            if let Some(reply) = reply(&mut self.builder, &talk.inbox, &self.formation) {
                talk.answered = true;
                self.net.send(connection, reply);
                self.net.close(connection);
            }
        }
        Next::Wait
    }

    fn close_all(&self) {
        let all = self.asking.keys().chain(self.asked_by.keys());
        all.for_each(|&connection| self.net.close(connection));
    }
}

/// A node's own part in the formation, as it is sent.
struct Introduction {
    kind: Kind,
    own: Candidate,
    address: String,
    named: u64,
}

fn introduction(kind: Kind, formation: &Formation) -> Introduction {
    let own = formation.own();
    Introduction {
        kind,
        own,
        address: own.address.to_string(),
        named: formation.named_digest(),
    }
}

impl Introduction {
    fn peer(&self) -> Peer<'_> {
        Peer {
            kind: self.kind,
            protocol: PEER_PROTOCOL_VERSION,
            node: self.own.node.0,
            address: &self.address,
            shards: self.own.shards,
            named: self.named,
            ..Peer::default()
        }
    }
}

/// Where the shard of a node listens that forms its ring.
fn first_shard(base: SocketAddr) -> SocketAddr {
    let shard = ShardId(0);
    let mut address = base;
    address.set_port(base.port().saturating_add(1 + shard.0));
    address
}

/// What a named node says.
fn answer(frame: &[u8]) -> Result<Answer, String> {
    let peer = codec::decode_peer(frame).map_err(|why| why.to_string())?;
    if peer.kind != Kind::Joined || peer.protocol != PEER_PROTOCOL_VERSION {
        return Err("it speaks another version of the protocol between nodes".into());
    }
    if !peer.message.is_empty() {
        return Ok(Answer::Refused(peer.message.to_owned()));
    }
    if peer.status == Status::NotReady as u8 {
        return Ok(Answer::Wait);
    }
    if peer.ring.is_empty() {
        let candidate = peers::candidate(&peer).ok_or("it does not say who it is")?;
        let named = peer.named;
        return Ok(Answer::Unformed { candidate, named });
    }
    let ring = ring_codec::decode(peer.ring).map_err(|why| why.to_string())?;
    let secret = peer.secret.try_into().map_err(|_| "it sent no secret")?;
    Ok(Answer::Formed {
        ring: Box::new(ring),
        secret,
    })
}

/// The reply to whoever asks a node without a ring; `None`: not all has come.
fn reply(builder: &mut codec::Builder, inbox: &[u8], formation: &Formation) -> Option<Vec<u8>> {
    let is_peer = frame::is_of_peer(inbox);
    let identifier = [REQUEST_IDENTIFIER, PEER_IDENTIFIER][usize::from(is_peer)];
    // More may have come than the first request.
    let first = match frame::split(inbox, identifier, STRANGER_FRAME_BYTES_MAX) {
        Split::NeedMore { .. } => return None,
        Split::Frame { len } => &inbox[..len],
        Split::Bad(_) => inbox,
    };
    if is_peer {
        let joined = introduction(Kind::Joined, formation);
        return Some(codec::encode_peer(builder, &joined.peer()).to_vec());
    }
    let missing: Vec<String> = formation.missing().iter().map(|a| a.to_string()).collect();
    let message = format!(
        "this node waits for the others of its ring: {}; start them",
        missing.join(", ")
    );
    let id = match codec::decode_request(first, codec::RequestLimits::default()) {
        Ok(request) => request.id,
        Err(bad) => bad.id.unwrap_or(0),
    };
    let reply = Reply {
        id,
        status: Some(Status::NotReady),
        message: &message,
        ..Reply::default()
    };
    Some(codec::encode_reply(builder, &reply).to_vec())
}
