//! Requests of keys that this node does not hold, or cannot speak for: a replica of the key runs them, and its reply
//! goes to the client as it comes.
//!
//! A request is forwarded once: who gets it from another node runs it or refuses it. If it is refused for what is the
//! matter with that node alone, and so nothing was changed, the next replica is asked. A write whose link breaks may
//! have happened; it is not sent to anyone else.

use super::coordinate::Coordinated;
use super::epochs::plain;
use super::flights::{Answer, Replicas};
use super::shard::{Shard, SharedShard, TOO_MANY};
use super::waiters::{Asker, ReplyTo};
use crate::base::marks::mark;
use crate::base::planted::planted;
use crate::engine::key::KeyRef;
use crate::runtime::Queue;
use crate::wire::codec;
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
    // The frame says which key it is.
    let on = plain(shared, flight, replicas);
    let runtime = shard.runtime.clone();
    runtime.spawn(Queue::Foreground, run(on, asker, frame));
}

/// Whether this reply says that nothing was changed, for a reason that another replica need not have.
fn is_of_this_node_alone(reply: &[u8]) -> bool {
    let status = codec::decode_reply(reply).ok().map(|reply| reply.status);
    matches!(
        status,
        Some(Status::NotReady | Status::Unsure | Status::QuorumUnavailable | Status::Full)
    )
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
            Some(Answer::Forwarded { frame })
                if left.len() > 0 && is_of_this_node_alone(&frame) =>
            {
                mark!(ForwardedOn);
                sent = false;
            }
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
