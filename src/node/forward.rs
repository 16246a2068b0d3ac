//! Requests of keys that this node does not hold, or cannot speak for: a replica of the key runs them, and its reply
//! goes to the client as it comes.
//!
//! A request is forwarded once: who gets it from another node runs it or refuses it. A write whose link breaks may have
//! happened; it is not sent to anyone else.

use super::coordinate::{Coordinated, Quorums};
use super::flights::{Answer, Replicas};
use super::shard::{Shard, SharedShard, TOO_MANY};
use super::waiters::{Asker, ReplyTo};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::coordinator::quorum::Quorum;
use crate::engine::key::{Key, KeyRef};
use crate::ring::position::Position;
use crate::runtime::Queue;
use crate::wire::message::{Request, Status};
use crate::wire::peer::{Kind, Peer};

/// Forwards a request that has just come.
pub fn forward(
    shard: &mut Shard,
    shared: &SharedShard,
    to: ReplyTo,
    key: KeyRef<'_>,
    request: &Request<'_>,
    frame: &[u8],
) {
    let placement = shard.placement(key.position);
    let mut replicas: Replicas = placement.full().into();
    replicas.retain(|remote| remote.node != shard.node);
    let mut asker = shard.begin(to, request);
    if !shard.promise(&mut asker, frame.len()) {
        return;
    }
    shard.counters.forwarded += 1;
    go_on(shard, shared, asker, frame.to_vec(), replicas);
}

/// Forwards a request that is under way, to the first of `replicas` that can be reached.
pub fn go_on(
    shard: &mut Shard,
    shared: &SharedShard,
    asker: Asker,
    frame: Vec<u8>,
    replicas: Replicas,
) {
    let now = shard.runtime.now();
    let Some(flight) = shard.flights.open(replicas.clone(), now, asker.deadline) else {
        return shard.finish_message(asker, Status::Overloaded, TOO_MANY);
    };
    mark!(Forwarded);
    let one = Quorum::of(1, 1, 1, 1).expect("one of one");
    let on = Coordinated {
        shared: shared.clone(),
        flight,
        // The frame says which key it is.
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
    };
    let runtime = shard.runtime.clone();
    runtime.spawn(Queue::Foreground, run(on, asker, frame));
}

async fn run(on: Coordinated, asker: Asker, frame: Vec<u8>) {
    let ask = Peer {
        kind: Kind::Forward,
        frame: &frame,
        ..Peer::default()
    };
    let mut left = on.others_up().into_iter();
    let mut sent = false;
    let ended = loop {
        if !sent {
            match left.find(|&replica| on.ask(replica, &ask)) {
                Some(_) => {
                    sent = true;
                    if planted!(ForwardedTwice) {
                        left.find(|&replica| on.ask(replica, &ask));
                    }
                }
                None => break on.not_reached(),
            }
        }
        match on.next().await {
            Some(Answer::Forwarded { frame }) => {
                on.with(|shard| shard.finish_with_frame(asker, &frame));
                return on.close();
            }
            // Nobody knows what became of a write; a read goes to the next one.
            Some(Answer::Refused { why, .. }) if asker.op.writes() => break why,
            Some(Answer::Refused { .. }) => sent = false,
            Some(_) => {}
            None if asker.op.writes() => {
                let mut why = on.not_reached();
                why.status = Status::Timeout;
                let message = "the replica that was to run this write did not answer in time; it may still happen";
                why.message = message.into();
                break why;
            }
            None => break on.not_reached(),
        }
    };
    on.refuse(asker, &ended);
}
