//! Requests that cross: a client may ask any shard, and the one that owns the key answers.
//!
//! The verified frame goes through the mailbox as it came, the owner's reply frame comes back the same way and leaves
//! on the connection. The door counts a crossing request as its own until then: an owner that does not answer by the
//! deadline, or has ended, is answered for.

use super::gathering;
use super::shard::{Shard, SharedShard};
use super::waiters::{Asker, ReplyTo};
use crate::base::planted::planted;
use crate::base::units::Nanos;
use crate::ring::shard_map::ShardId;
use crate::runtime::mailbox::{AskRefused, Ticket};
use crate::runtime::net::ConnectionId;
use crate::wire::codec;
use crate::wire::frame;
use crate::wire::message::{Op, Request, Status};

/// What waits for an answer from another shard.
#[derive(Clone, Copy, Debug)]
pub enum Awaited {
    Request {
        asker: Asker,
        writes: bool,
    },
    /// The row of another shard in a status report.
    Row {
        gathering: u64,
        deadline: Nanos,
    },
    /// That another shard has taken what concerns the ring; nobody waits for it.
    Noted {
        deadline: Nanos,
    },
}

impl Awaited {
    fn deadline(&self) -> Nanos {
        match self {
            Awaited::Request { asker, .. } => asker.deadline,
            Awaited::Row { deadline, .. } | Awaited::Noted { deadline } => *deadline,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Crossing {
    pub owner: ShardId,
    pub awaited: Awaited,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    crossing: Option<Crossing>,
}

/// All that has crossed and is not answered. A tag is a slot and the generation of its use, so that an answer that
/// comes after its deadline meets nothing.
#[derive(Debug, Default)]
pub struct Crossings {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Crossings {
    fn begin(&mut self, crossing: Crossing) -> u64 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        assert!(place.crossing.is_none());
        place.crossing = Some(crossing);
        u64::from(place.generation) << 32 | u64::from(slot)
    }

    /// `None`: it has been answered for.
    fn end(&mut self, tag: u64) -> Option<Crossing> {
        let mut slot = tag as u32;
        let generation = (tag >> 32) as u32;
        if planted!(ReplyToWrongRequest) {
            slot = self.slots.iter().rposition(|s| s.crossing.is_some())? as u32;
        } else if self.slots[slot as usize].generation != generation {
            return None;
        }
        self.vacate(slot)
    }

    fn vacate(&mut self, slot: u32) -> Option<Crossing> {
        let place = &mut self.slots[slot as usize];
        let crossing = place.crossing.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        Some(crossing)
    }

    fn take_all(&mut self, wanted: impl Fn(&Crossing) -> bool) -> Vec<Crossing> {
        let mut taken = Vec::new();
        for slot in 0..self.slots.len() {
            if self.slots[slot].crossing.as_ref().is_some_and(&wanted) {
                taken.extend(self.vacate(slot as u32));
            }
        }
        taken
    }
}

/// Sends a request that is under way here to the shard that owns its key.
pub fn cross(
    shard: &mut Shard,
    id: ConnectionId,
    request: &Request<'_>,
    frame: &[u8],
    owner: ShardId,
) {
    let mut asker = shard.begin(ReplyTo::Connection(id), request);
    let expected = match request.op {
        // Nobody knows yet how large the reply will be: about as large as those before it.
        Op::Get | Op::Keys => shard.connections.get(id).map_or(0, |c| c.crossed_bytes),
        // Its copy waits for the owner.
        _ => frame.len(),
    };
    if !shard.promise(&mut asker, expected) {
        return;
    }
    let awaited = Awaited::Request {
        asker,
        writes: request.op.writes(),
    };
    match ask(shard, owner, awaited, frame) {
        Ok(()) => shard.counters.crossed_out += 1,
        Err(AskRefused::NoCredit) => {
            let message = "too many requests wait for another shard; send fewer at a time, or send them to its port";
            shard.finish_message(asker, Status::Overloaded, message);
        }
        Err(AskRefused::Ended) => shard.finish_message(asker, Status::NotReady, ENDED),
    }
}

const ENDED: &str = "the shard that owns this key has stopped; restart this node";

/// Asks another shard with a request frame.
pub fn ask(
    shard: &mut Shard,
    owner: ShardId,
    awaited: Awaited,
    frame: &[u8],
) -> Result<(), AskRefused> {
    let deadline = awaited.deadline();
    let tag = shard.crossings.begin(Crossing { owner, awaited });
    let asked = shard.mailbox.ask(owner.0, tag, deadline, frame);
    if asked.is_err() {
        shard.crossings.vacate(tag as u32);
    }
    asked
}

/// Another shard asks in the name of one of its connections.
pub fn on_asked(
    shard: &mut Shard,
    shared: &SharedShard,
    ticket: Ticket,
    deadline: Nanos,
    frame: &[u8],
) {
    if frame::is_of_peer(frame) {
        shard.on_mail_of_ring(shared, frame);
        return shard.mailbox.answer(ticket, &[]);
    }
    let request = codec::decode_request(frame, shard.request_limits);
    let request = request.expect("it was verified at the door, under the same limits");
    if request.op.is_of_all_shards() {
        return gathering::on_asked(shard, ticket, &request);
    }
    shard.counters.crossed_in += 1;
    let (to, key) = (ReplyTo::Shard { ticket, deadline }, shard.key(&request));
    shard.serve(shared, to, key, &request, frame);
}

/// The reply frame of another shard.
pub fn on_answered(shard: &mut Shard, tag: u64, frame: &[u8]) {
    let Some(crossing) = shard.crossings.end(tag) else {
        return;
    };
    match crossing.awaited {
        Awaited::Request { asker, .. } => {
            shard.end(asker);
            let ReplyTo::Connection(id) = asker.to else {
                unreachable!("only requests of connections cross");
            };
            if let Some(outbox) = shard.connections.outbox(id) {
                outbox.extend_from_slice(frame);
            }
            if let Some(connection) = shard.connections.get(id) {
                connection.crossed_bytes = frame.len().max(connection.crossed_bytes / 2);
                shard.connections.touch(id);
            }
        }
        Awaited::Row { gathering, .. } => {
            let reply = codec::decode_reply(frame).expect("a shard of ours made it");
            let row = serde_json::from_str(reply.status_json).expect("a shard of ours made it");
            gathering::on_row(shard, gathering, row);
        }
        Awaited::Noted { .. } => {}
    }
}

/// Another shard has ended: what it was asked it will not answer.
pub fn on_shard_ended(shard: &mut Shard, ended: u16) {
    for crossing in shard.crossings.take_all(|c| c.owner.0 == ended) {
        give_up(shard, crossing, |shard, asker, writes| match writes {
            true => {
                let message = "the shard that owns this key stopped while the write was under way; it may or may not \
                               be there";
                shard.finish_message(asker, Status::OutcomeUnknown, message);
            }
            false => shard.finish_message(asker, Status::NotReady, ENDED),
        });
    }
}

/// Answers for the shards that did not answer in time.
pub fn on_tick(shard: &mut Shard) {
    let now = shard.runtime.now();
    for crossing in shard.crossings.take_all(|c| c.awaited.deadline() <= now) {
        give_up(shard, crossing, |shard, asker, writes| match writes {
            true => {
                let message = "the shard that owns this key did not answer in time; the write may still happen";
                shard.finish_message(asker, Status::Timeout, message);
            }
            false => {
                let message =
                    "the shard that owns this key did not answer in time; nothing was changed";
                shard.finish_message(asker, Status::Overloaded, message);
            }
        });
    }
}

fn give_up(shard: &mut Shard, crossing: Crossing, answer: impl FnOnce(&mut Shard, Asker, bool)) {
    match crossing.awaited {
        Awaited::Request { asker, writes } => answer(shard, asker, writes),
        Awaited::Row { gathering, .. } => {
            let row = super::status::silent(crossing.owner.0);
            gathering::on_row(shard, gathering, row);
        }
        Awaited::Noted { .. } => {}
    }
}
