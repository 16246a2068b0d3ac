//! What is asked and answered, as values of the caller's own.

use crate::causal::dot::{Actor, Dot, Incarnation};
use crate::causal::value_hash::value_hash;
use crate::wire::codec::ReplyView;
use crate::wire::message::{HelloReply, Receipt, SiblingView, Status};

/// What a get found: no siblings is "not found".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The values of the key: more than one if writes did not see each other.
    pub siblings: Vec<Sibling>,
    /// Stands for all that this get saw; for [`Put::with_context`](super::Put::with_context). There is one for a key
    /// without a value too.
    pub context: Vec<u8>,
    pub receipt: Option<Receipt>,
}

/// One value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    pub value: Vec<u8>,
    /// The value is known to be there but cannot be read now; `value` is empty.
    pub lost: bool,
    /// When the node took it, by its wall clock, in milliseconds since 1970. For eyes.
    pub written_ms: u64,
    /// When it ceases to be, in milliseconds since 1970; 0: never.
    pub expires_ms: u64,
}

impl From<SiblingView<'_>> for Sibling {
    fn from(view: SiblingView<'_>) -> Sibling {
        Sibling {
            value: view.value.to_vec(),
            lost: view.lost,
            written_ms: view.written.0,
            expires_ms: view.expires.0,
        }
    }
}

/// A durable write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// What the key is known to hold after it, where the node tells; may be empty.
    pub context: Vec<u8>,
    /// Who vouches for it.
    pub receipt: Option<Receipt>,
}

/// Who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub node: HelloReply<'static>,
    /// The port of each shard on the node's address, in the order of the shards.
    pub shard_ports: Vec<u16>,
}

/// How the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// Whether it takes requests.
    pub serving: bool,
    pub message: String,
    /// A JSON object in one line; members are only ever added.
    pub json: String,
}

/// A page of the keys of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysPage {
    pub keys: Vec<Vec<u8>>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<PageStart>,
}

/// Where a page of keys begins; by default with the first key of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageStart {
    /// On the circle of keys, which has 2^64 positions; a listing goes from 0 up.
    pub position: u64,
    pub(super) key: Vec<u8>,
}

/// A reply, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: Status,
    pub message: String,
    pub hello: Option<Hello>,
    pub json: String,
    pub found: Found,
    pub page: KeysPage,
    /// Of each sibling in `found`: what its value's checksum is made of.
    checks: Vec<SiblingCheck>,
}

#[derive(Debug)]
struct SiblingCheck {
    dot: Dot,
    operation: crate::causal::object::OperationId,
    value_hash: u64,
}

impl From<ReplyView<'_>> for Answer {
    fn from(reply: ReplyView<'_>) -> Answer {
        let checks = reply.siblings.iter().map(|sibling| SiblingCheck {
            dot: Dot {
                actor: Actor {
                    incarnation: Incarnation(sibling.dot.incarnation),
                    birth: sibling.dot.birth,
                },
                counter: sibling.dot.counter,
            },
            operation: sibling.operation,
            value_hash: sibling.value_hash,
        });
        Answer {
            status: reply.status,
            message: reply.message.to_owned(),
            hello: reply.hello().map(|(node, ports)| Hello {
                node,
                shard_ports: ports.collect(),
            }),
            json: reply.status_json.to_owned(),
            found: Found {
                siblings: reply.siblings.iter().map(Sibling::from).collect(),
                context: reply.context.to_vec(),
                receipt: reply.receipt,
            },
            page: KeysPage {
                keys: reply.keys.iter().map(<[u8]>::to_vec).collect(),
                next: reply.next.map(|next| PageStart {
                    position: next.position,
                    key: next.key.to_vec(),
                }),
            },
            checks: checks.collect(),
        }
    }
}

impl Answer {
    /// Whether each value is the one whose checksum was made where it was written.
    pub(super) fn is_intact(&self, bucket: &[u8], key: &[u8]) -> bool {
        let mut siblings = self.found.siblings.iter().zip(&self.checks);
        siblings.all(|(sibling, check)| {
            let value = sibling.value.as_slice();
            let hash = value_hash(bucket, key, check.dot, check.operation, value);
            sibling.lost || hash == check.value_hash
        })
    }

    pub(super) fn written(self) -> Written {
        Written {
            context: self.found.context,
            receipt: self.found.receipt,
        }
    }
}
