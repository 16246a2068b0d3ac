//! What comes on the links that this shard has dialled: the answers of other nodes, each to the flight that waits for
//! it.

use super::epochs;
use super::flights::{Answer, FlightId, Refused, Stored};
use super::greeting::{Theirs, UNASKED};
use super::links::Due;
use super::peers::{carried, key_named};
use super::shard::{Shard, SharedShard};
use crate::base::limits;
use crate::base::marks::mark;
use crate::ring::codec as ring_codec;
use crate::runtime::net::Event;
use crate::wire::codec;
use crate::wire::frame::{self, PEER_IDENTIFIER, Split};
use crate::wire::key_list;
use crate::wire::message::Status;
use crate::wire::peer::{Kind, NEED, Peer};

impl Shard {
    /// Takes what happened on a link that this shard dialled; gives back what is of somebody else.
    pub fn on_link_event(&mut self, shared: &SharedShard, event: Event) -> Option<Event> {
        let connection = match &event {
            Event::Connected { connection }
            | Event::Chunk { connection, .. }
            | Event::Sent { connection, .. }
            | Event::Ended { connection }
            | Event::Closed { connection, .. } => *connection,
            _ => return Some(event),
        };
        let Some(link) = self.links.find(connection) else {
            return Some(event);
        };
        let now = self.runtime.now();
        match event {
            Event::Connected { .. } => {
                self.links.on_connected(link, now);
                self.send_hello(link);
            }
            Event::Chunk { bytes, .. } => self.on_link_bytes(shared, link, &bytes),
            Event::Sent { buffer, .. } => self.links.on_sent(link, buffer),
            Event::Ended { .. } | Event::Closed { .. } => {
                let remote = self.links.on_closed(&self.net, link, now);
                self.flights.on_lost(remote);
            }
            other => return Some(other),
        }
        None
    }

    /// Looks after the links and all that waits for other nodes.
    pub fn on_peers_tick(&mut self) {
        let now = self.runtime.now();
        for due in self.links.on_tick(&self.net, now) {
            match due {
                Due::Ping(link) => {
                    let ping = Peer {
                        kind: Kind::Ping,
                        ..Peer::default()
                    };
                    let frame = codec::encode_peer(&mut self.builder, &ping);
                    self.links.send(link, frame, now);
                }
                Due::Lost(remote) => {
                    mark!(LinkSilent);
                    self.flights.on_lost(remote);
                }
            }
        }
        self.flights.on_tick(now);
    }

    fn send_hello(&mut self, link: usize) {
        let to = self.links.remote(link).node;
        let mut ring = Vec::new();
        // Who has an older ring refuses this one, and takes it from the next hello.
        if self.links.was_refused(link) {
            ring_codec::encode(self.ring.value(), &mut ring);
        }
        let hello = Peer {
            ring: &ring,
            ..self.introduction(Kind::Hello, to)
        };
        let frame = codec::encode_peer(&mut self.builder, &hello);
        self.links.send(link, frame, self.runtime.now());
    }

    fn on_link_bytes(&mut self, shared: &SharedShard, link: usize, bytes: &[u8]) {
        let inbox = self.links.on_bytes(link, bytes, self.runtime.now());
        let mut used = 0;
        loop {
            let len_max = match self.links.is_greeting(link) {
                true => limits::STRANGER_FRAME_BYTES_MAX,
                false => limits::PEER_FRAME_BYTES_MAX,
            };
            let taken = match frame::split(&inbox[used..], PEER_IDENTIFIER, len_max) {
                Split::NeedMore { .. } => break,
                Split::Frame { len } => {
                    let frame = &inbox[used..used + len];
                    used += len;
                    self.on_link_frame(shared, link, frame)
                }
                Split::Bad(why) => Err(why.to_string()),
            };
            if let Err(why) = taken {
                let now = self.runtime.now();
                let remote = self.links.give_up(&self.net, link, &why, now);
                self.flights.on_lost(remote);
                return;
            }
        }
        self.links.keep(link, inbox, used);
    }

    /// An answer of another node. `Err`: the link is of no more use.
    fn on_link_frame(
        &mut self,
        shared: &SharedShard,
        link: usize,
        frame: &[u8],
    ) -> Result<(), String> {
        let peer = codec::decode_peer(frame).map_err(|why| why.to_string())?;
        let from = self.links.remote(link);
        if peer.id != UNASKED {
            self.links.on_answer(link, self.runtime.now());
        }
        if self.links.is_greeting(link) {
            return match peer.kind {
                Kind::Welcome => {
                    let (node, theirs) = self.introduced(&peer)?;
                    if node != from.node || theirs != Theirs::Same {
                        return Err("another node answers at its address".into());
                    }
                    self.links.on_welcome(link);
                    self.links.on_state(link, peer.status == Status::Ok as u8);
                    Ok(())
                }
                Kind::Refused if !peer.ring.is_empty() => {
                    let (_, theirs) = self.introduced(&peer)?;
                    self.learn_from(shared, &peer, theirs);
                    Err("it has a newer ring".into())
                }
                Kind::Refused => Err(format!("it refuses this node: {}", peer.message)),
                _ => Err("it does not say who it is".into()),
            };
        }
        let id = FlightId(peer.id);
        match peer.kind {
            Kind::Pong => self.links.on_state(link, peer.status == Status::Ok as u8),
            Kind::Stored if peer.status == Status::Ok as u8 => {
                self.flights.on_answer(id, from, |replica| Answer::Stored {
                    replica,
                    what: Stored::Durable,
                });
            }
            Kind::Stored if peer.status == NEED => {
                self.flights.on_answer(id, from, |replica| Answer::Stored {
                    replica,
                    what: Stored::Needs,
                });
            }
            Kind::Found if peer.status == Status::Ok as u8 => {
                let object = match peer.object {
                    [] => None,
                    bytes => {
                        let object = carried(peer.bucket, peer.key, bytes);
                        Some(Box::new(object.ok_or("it sent a damaged object")?))
                    }
                };
                self.flights
                    .on_answer(id, from, |replica| Answer::Found { replica, object });
            }
            Kind::Stored | Kind::Found => {
                let why = Refused::new(Status::from_wire(peer.status), peer.message);
                self.flights
                    .on_answer(id, from, |replica| Answer::Refused { replica, why });
            }
            Kind::Forwarded => {
                codec::decode_reply(peer.frame).map_err(|why| why.to_string())?;
                let frame = peer.frame.to_vec();
                self.flights
                    .on_answer(id, from, |_| Answer::Forwarded { frame });
            }
            Kind::Promised | Kind::Accepted => {
                let vote = epochs::vote_of(&peer);
                self.flights
                    .on_answer(id, from, |replica| Answer::Voted { replica, vote });
            }
            Kind::Scanned if peer.status == Status::Ok as u8 => {
                let keys = key_list::decode(peer.object).ok_or("it sent a damaged page")?;
                let keys = keys.into_iter().map(|(bucket, key)| key_named(bucket, key));
                let (keys, more) = (keys.collect(), peer.more);
                self.flights.on_answer(id, from, |replica| Answer::Scanned {
                    replica,
                    keys,
                    more,
                });
            }
            Kind::Scanned => {
                let why = Refused::new(Status::from_wire(peer.status), peer.message);
                self.flights
                    .on_answer(id, from, |replica| Answer::Refused { replica, why });
            }
            Kind::Noted => {
                self.flights
                    .on_answer(id, from, |replica| Answer::Noted { replica });
            }
            _ => return Err("it asks where it should answer".into()),
        }
        Ok(())
    }
}
