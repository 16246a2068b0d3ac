//! A node without a ring asks the nodes that it was told of, and answers those that ask it, until it has one. Runs on
//! shard 0 before any shard serves; what it decides is in `membership::formation`.

use super::config::{Options, Ports};
use super::{Announce, StartError, peers};
use crate::base::limits::{FORMATION_ASK_MS, FORMATION_TELL_MS, STRANGER_FRAME_BYTES_MAX};
use crate::base::units::Nanos;
use crate::membership::formation::{self, Answer, Candidate, Formation, FormationError, Next};
use crate::membership::token::{Asked, Gate, JoinToken};
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
    if options.join_token.is_none() && !options.joins_locally() {
        return Err(FormationError::NoToken.into());
    }
    if options
        .advertise
        .unwrap_or(options.listen)
        .ip()
        .is_unspecified()
    {
        let listen = options.listen;
        return Err(FormationError::NoAddress { listen }.into());
    }
    let own = Candidate {
        node: Identity::candidate(runtime, disk).await.map_err(at)?,
        address: options.advertised(ports),
        shards: ports.shards.len() as u16,
    };
    let mut forming = Forming {
        runtime,
        net: runtime.net(),
        formation: Formation::new(own, &options.join)?,
        token: options.join_token.clone(),
        gate: options.gate(None),
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
    /// The numbers that were drawn for it, here and there; zero: not yet, or there is no token.
    nonce: u128,
    answer_nonce: u128,
}

struct Forming<'a> {
    runtime: &'a Runtime,
    net: Net,
    formation: Formation,
    /// What this node proves that it knows.
    token: Option<JoinToken>,
    gate: Gate,
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
                let talk = Talk {
                    nonce: self.token.as_ref().map_or(0, |_| nonce(self.runtime)),
                    ..Talk::default()
                };
                self.asking.insert(id, (address, now, talk));
            }
        }
    }

    fn on_event(&mut self, event: Event) -> Next {
        match event {
            Event::Accepted { connection, .. } => {
                self.asked_by.insert(connection, Talk::default());
            }
            Event::Connected { connection } => self.ask(connection),
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

    /// Says who this node is; the second time with a proof that it knows the token.
    fn ask(&mut self, connection: ConnectionId) {
        let Some((_, _, talk)) = self.asking.get(&connection) else {
            return;
        };
        let ask = introduction(Kind::Join, &self.formation);
        let mut join = Peer {
            nonce: talk.nonce,
            answer_nonce: talk.answer_nonce,
            ..ask.peer()
        };
        if let Some(token) = self.token.as_ref().filter(|_| join.answer_nonce != 0) {
            join.proof = token.proof(&join);
        }
        let frame = codec::encode_peer(&mut self.builder, &join).to_vec();
        self.net.send(connection, frame);
    }

    fn on_bytes(&mut self, connection: ConnectionId, bytes: &[u8]) -> Next {
        if let Some((address, _, talk)) = self.asking.get_mut(&connection) {
            let address = *address;
            talk.inbox.extend_from_slice(bytes);
            let answer = match frame::split(&talk.inbox, PEER_IDENTIFIER, STRANGER_FRAME_BYTES_MAX)
            {
                Split::NeedMore { .. } => return Next::Wait,
                Split::Frame { len } => answer(&talk.inbox[..len], self.token.as_ref(), talk),
                Split::Bad(why) => Err(why.to_string()),
            };
            if let Ok(Said::Challenge(answer_nonce)) = answer {
                talk.answer_nonce = answer_nonce;
                talk.inbox.clear();
                self.ask(connection);
                return Next::Wait;
            }
            self.asking.remove(&connection);
            self.net.close(connection);
            return match answer {
                Ok(Said::Answer(answer)) => self.formation.on_answer(address, answer),
                Ok(Said::Challenge(_)) => unreachable!("it was answered above"),
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
            let drawn = nonce(self.runtime);
            let (builder, formation) = (&mut self.builder, &self.formation);
            match reply(builder, talk, formation, &self.gate, drawn) {
                Reaction::Wait => {}
                Reaction::Challenge(frame) => self.net.send(connection, frame),
                Reaction::Last(frame) => {
                    talk.answered = true;
                    self.net.send(connection, frame);
                    self.net.close(connection);
                }
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

/// A number that nobody can know before; never zero, which says that there is none.
pub fn nonce(runtime: &Runtime) -> u128 {
    ((u128::from(runtime.random_u64()) << 64) | u128::from(runtime.random_u64())).max(1)
}

/// What comes back from a named node.
enum Said {
    Answer(Answer),
    /// It wants a proof, over this number too.
    Challenge(u128),
}

/// What a named node says in this talk. Who knows the token believes only who knows it too.
fn answer(frame: &[u8], token: Option<&JoinToken>, talk: &Talk) -> Result<Said, String> {
    let peer = codec::decode_peer(frame).map_err(|why| why.to_string())?;
    if peer.protocol != PEER_PROTOCOL_VERSION {
        return Err("it speaks another version of the protocol between nodes".into());
    }
    let challenged = talk.answer_nonce != 0;
    if peer.kind == Kind::Challenge && token.is_some() && !challenged && peer.answer_nonce != 0 {
        return Ok(Said::Challenge(peer.answer_nonce));
    }
    if peer.kind != Kind::Joined {
        return Err("it answers something else".into());
    }
    // It is in the way of nobody but this node's operator, and may not know the token.
    if !peer.message.is_empty() {
        return Ok(Said::Answer(Answer::Refused(peer.message.to_owned())));
    }
    let of_this_talk = (peer.nonce, peer.answer_nonce) == (talk.nonce, talk.answer_nonce);
    if token.is_some_and(|token| !of_this_talk || !challenged || !token.is_proved(&peer)) {
        return Ok(Said::Answer(Answer::NotProved));
    }
    if peer.status == Status::NotReady as u8 {
        return Ok(Said::Answer(Answer::Wait));
    }
    if peer.ring.is_empty() {
        let candidate = peers::candidate(&peer).ok_or("it does not say who it is")?;
        let named = peer.named;
        return Ok(Said::Answer(Answer::Unformed { candidate, named }));
    }
    let ring = ring_codec::decode(peer.ring).map_err(|why| why.to_string())?;
    let mut secret = peer.secret.try_into().map_err(|_| "it sent no secret")?;
    if let Some(token) = token {
        secret = token.masked((talk.nonce, talk.answer_nonce), secret);
    }
    Ok(Said::Answer(Answer::Formed {
        ring: Box::new(ring),
        secret,
    }))
}

/// What a node without a ring makes of what it is asked.
enum Reaction {
    /// Not all has come.
    Wait,
    /// The asker is to prove that it knows the token.
    Challenge(Vec<u8>),
    /// There is no more to be said.
    Last(Vec<u8>),
}

/// The reply to whoever asks a node without a ring. `drawn`: the number of a challenge, if one is due.
fn reply(
    builder: &mut codec::Builder,
    talk: &mut Talk,
    formation: &Formation,
    gate: &Gate,
    drawn: u128,
) -> Reaction {
    let is_peer = frame::is_of_peer(&talk.inbox);
    let identifier = [REQUEST_IDENTIFIER, PEER_IDENTIFIER][usize::from(is_peer)];
    // More may have come than the first request.
    let first = match frame::split(&talk.inbox, identifier, STRANGER_FRAME_BYTES_MAX) {
        Split::NeedMore { .. } => return Reaction::Wait,
        Split::Frame { len } => talk.inbox.drain(..len).collect(),
        Split::Bad(_) => std::mem::take(&mut talk.inbox),
    };
    if !is_peer {
        return Reaction::Last(not_ready(builder, &first, formation));
    }
    let asked = codec::decode_peer(&first).unwrap_or_default();
    let challenge = Some(talk.answer_nonce).filter(|&nonce| nonce != 0);
    let joined = introduction(Kind::Joined, formation);
    let mut joined = Peer {
        nonce: asked.nonce,
        answer_nonce: asked.answer_nonce,
        ..joined.peer()
    };
    match gate.ask(&asked, challenge) {
        Asked::Challenge => {
            talk.answer_nonce = drawn;
            let challenge = Peer {
                kind: Kind::Challenge,
                protocol: PEER_PROTOCOL_VERSION,
                nonce: asked.nonce,
                answer_nonce: drawn,
                ..Peer::default()
            };
            return Reaction::Challenge(codec::encode_peer(builder, &challenge).to_vec());
        }
        Asked::LetIn(token) => joined.proof = token.map_or(0, |token| token.proof(&joined)),
        Asked::Refused(why) => joined.message = why,
    }
    Reaction::Last(codec::encode_peer(builder, &joined).to_vec())
}

/// The reply to a client's request.
fn not_ready(builder: &mut codec::Builder, request: &[u8], formation: &Formation) -> Vec<u8> {
    let missing: Vec<String> = formation.missing().iter().map(|a| a.to_string()).collect();
    let message = format!(
        "this node waits for the others of its ring: {}; start them",
        missing.join(", ")
    );
    let id = match codec::decode_request(request, codec::RequestLimits::default()) {
        Ok(request) => request.id,
        Err(bad) => bad.id.unwrap_or(0),
    };
    let reply = Reply {
        id,
        status: Some(Status::NotReady),
        message: &message,
        ..Reply::default()
    };
    codec::encode_reply(builder, &reply).to_vec()
}
