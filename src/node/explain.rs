//! What this node holds of a key, and who should hold it: for whoever asks why a get answers as it does.

use super::own;
use super::shard::{Shard, SharedShard};
use super::waiters::{Asker, ReplyTo};
use crate::base::units::KIB;
use crate::causal::dot::Dot;
use crate::causal::object::{Kind, Object, Sibling};
use crate::engine::Place;
use crate::engine::key::{Key, KeyRef};
use crate::ring::owners::MemberIndex;
use crate::runtime::Queue;
use crate::wire::message::{Reply, Request, Status};
use serde_json::{Value, json};

/// Bytes of a report, as far as can be told before it is made: that of a key with a hundred siblings.
const REPORT_BYTES: usize = 32 * KIB;

pub fn on_explain(
    shard: &mut Shard,
    shared: &SharedShard,
    to: ReplyTo,
    key: KeyRef<'_>,
    request: &Request<'_>,
) {
    let mut asker = shard.begin(to, request);
    if !shard.promise(&mut asker, REPORT_BYTES) {
        return;
    }
    let Some(leave) = shard.leave(asker) else {
        return;
    };
    let (shared, key) = (shared.clone(), Key::from(key));
    shard.runtime.clone().spawn(Queue::Foreground, async move {
        let held = own::read(&shared, &key).await;
        let mut shard = shared.borrow_mut();
        if let Some(asker) = shard.back(leave) {
            let here = match held {
                Ok(None) => json!({ "state": "absent" }),
                Ok(Some(entry)) => held_json(&entry.object),
                Err(why) => json!({ "state": "unsure", "why": why.message }),
            };
            reply(&mut shard, asker, &key, here);
        }
        shard.flush();
    });
}

fn reply(shard: &mut Shard, asker: Asker, key: &Key, here: Value) {
    shard.end(asker);
    let report = report(shard, key, here).to_string();
    let reply = Reply {
        id: asker.request,
        status: Some(Status::Ok),
        status_json: &report,
        ..Reply::default()
    };
    shard.reply(asker.to, &reply);
}

/// Members are only ever added. Numbers of 64 bits are hex digits: scripts read numbers with fewer.
fn report(shard: &Shard, key: &Key, here: Value) -> Value {
    let ring = &shard.ring;
    let virtual_node = ring.virtual_node(key.position);
    let replica = |&index: &MemberIndex| {
        let member = ring.member(index);
        json!({
            "node": member.id.to_string(),
            "address": member.address.to_string(),
            "zone": member.zone,
            "filling": ring.is_filling(member.id),
            "shard": shard.maps[usize::from(index.0)].owner(virtual_node).0,
        })
    };
    let list = ring.preference_list(virtual_node, ring.value().replicas);
    json!({
        "position": format!("{:016x}", key.position.0),
        "virtual_node": virtual_node.0,
        "virtual_nodes": ring.virtual_nodes(),
        "ring_epoch": ring.epoch().0,
        "node": ring.member(shard.me).id.to_string(),
        "address": ring.member(shard.me).address.to_string(),
        "shard": shard.own.0,
        "replicas": list.iter().map(replica).collect::<Vec<_>>(),
        "here": here,
    })
}

fn held_json(object: &Object<Place>) -> Value {
    let shown = object.siblings.iter().any(Sibling::is_shown);
    let vector = object.vector.entries().iter();
    let seen = vector.map(|&(actor, counter)| dot(Dot { actor, counter }));
    json!({
        "state": if shown { "value" } else { "deleted" },
        "siblings": object.siblings.iter().map(sibling_json).collect::<Vec<_>>(),
        "vector": seen.collect::<Vec<_>>(),
    })
}

fn sibling_json(sibling: &Sibling<Place>) -> Value {
    let kind = match sibling.kind {
        Kind::Value => "value",
        Kind::Tombstone => "tombstone",
        Kind::ValueLost => "lost",
    };
    json!({
        "dot": dot(sibling.dot),
        "kind": kind,
        "bytes": sibling.value.bytes(),
        "written_ms": sibling.written.0,
        "operation": format!("{:032x}", sibling.operation.0),
        "value_hash": format!("{:016x}", sibling.value_hash),
    })
}

/// Incarnation, birth, counter.
fn dot(dot: Dot) -> String {
    let actor = dot.actor;
    format!(
        "{:016x}.{}.{}",
        actor.incarnation.0, actor.birth, dot.counter
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::UnixMillis;
    use crate::causal::dot::{Actor, Incarnation};
    use crate::causal::object::OperationId;
    use crate::causal::version_vector::VersionVector;

    #[test]
    fn a_deleted_key_says_so_and_shows_what_it_has_seen() {
        let (first, last) = (written(1), written(2));
        let mut object = Object {
            vector: VersionVector::default(),
            siblings: Vec::new(),
        };
        object.write(&VersionVector::default(), sibling(first, Kind::Value));
        let seen = object.vector.clone();
        assert_eq!(held_json(&object)["state"], "value");
        object.write(&seen, sibling(last, Kind::Tombstone));
        let told = held_json(&object);
        assert_eq!(told["state"], "deleted");
        assert_eq!(told["siblings"][0]["kind"], "tombstone");
        assert_eq!(told["siblings"][0]["dot"], "00000000000000ff.3.2");
        assert_eq!(told["vector"], json!(["00000000000000ff.3.2"]));
    }

    fn written(counter: u64) -> Dot {
        let incarnation = Incarnation(255);
        let actor = Actor {
            incarnation,
            birth: 3,
        };
        Dot { actor, counter }
    }

    fn sibling(dot: Dot, kind: Kind) -> Sibling<Place> {
        Sibling {
            dot,
            operation: OperationId(1),
            kind,
            written: UnixMillis(0),
            expires: UnixMillis(0),
            value_hash: 0,
            value: Place::Nowhere,
        }
    }
}
